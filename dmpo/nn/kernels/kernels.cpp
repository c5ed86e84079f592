// MLPs of all agents, their losses and gradients, gradients of whole models, and Adam, on the CPU. A tile of samples
// passes through all layers before the next one does, so that hidden outputs stay in cache; shapes.h has the arguments.

#include <immintrin.h>

#include <cmath>
#include <utility>

#include "packing.h"

// glibc's exponentials and logarithms of whole vectors, by their names in the ABI for such functions.
extern "C" {
__m256 _ZGVdN8v_expf(__m256);
__m256 _ZGVdN8v_logf(__m256);
__m512 _ZGVeN16v_expf(__m512);
__m512 _ZGVeN16v_logf(__m512);
}

// Of two numbers one of which is NaN, smaller and larger give the second.
//
// GCC's vectors have no widths of their own: what is compiled for one level of processor stands between two pragmas.
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
constexpr int LANES = 8, ROWS = 6, COLUMNS = 2;
typedef __m256 Register;
INLINE Register smaller(Register a, Register b) { return _mm256_min_ps(a, b); }
INLINE Register larger(Register a, Register b) { return _mm256_max_ps(a, b); }
INLINE Register square_root(Register x) { return _mm256_sqrt_ps(x); }
INLINE Register exponential(Register x) { return _ZGVdN8v_expf(x); }
INLINE Register logarithm(Register x) { return _ZGVdN8v_logf(x); }
#include "blocks.h"
#include "losses.h"
#include "float32.h"
#include "feature_major.h"
#include "model.h"
#include "adam.h"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
namespace avx512 {
constexpr int LANES = 16, ROWS = 6, COLUMNS = 4;
typedef __m512 Register;
INLINE Register smaller(Register a, Register b) { return _mm512_min_ps(a, b); }
INLINE Register larger(Register a, Register b) { return _mm512_max_ps(a, b); }
INLINE Register square_root(Register x) { return _mm512_sqrt_ps(x); }
INLINE Register exponential(Register x) { return _ZGVeN16v_expf(x); }
INLINE Register logarithm(Register x) { return _ZGVeN16v_logf(x); }
#include "blocks.h"
#include "losses.h"
#include "float32.h"
#include "feature_major.h"
#include "model.h"
#include "adam.h"
}  // namespace avx512
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
namespace avx512_bf16 {
constexpr int LANES = 16, ROWS = 6, COLUMNS = 4;
typedef __m512 Register;
INLINE Register smaller(Register a, Register b) { return _mm512_min_ps(a, b); }
INLINE Register larger(Register a, Register b) { return _mm512_max_ps(a, b); }
INLINE Register exponential(Register x) { return _ZGVeN16v_expf(x); }
INLINE Register logarithm(Register x) { return _ZGVeN16v_logf(x); }
#include "blocks.h"
#include "losses.h"
#include "bfloat16.h"
}  // namespace avx512_bf16
#pragma GCC pop_options

namespace {

enum Level { NONE, AVX2, AVX512, AVX512_BF16 };

Level processor() {
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return NONE;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl")))
        return AVX2;
    return __builtin_cpu_supports("avx512bf16") ? AVX512_BF16 : AVX512;
}

template <class Kind>
struct Tile {
    typename Kind::Number* hidden[MOST_LAYERS];
    Lines<typename Kind::Number> own[MOST_LAYERS];
    Lines<float> x;

    explicit Tile(const Work& net) : x(TILE * padded(net.width(0))) {
        for (long l = 0; l + 1 < net.layers && !net.kept; l++) own[l].resize(TILE * padded(net.width(l + 1)));
    }

    void move(const Work& net, const Task& task, long first, long rows) {
        give(net, task.stack, first, rows, x.data());
        for (long l = 0; l + 1 < net.layers; l++) {
            const long at = (task.stack * net.samples + first) * padded(net.width(l + 1));
            hidden[l] = net.kept ? static_cast<typename Kind::Number*>(net.kept[l]) + at : own[l].data();
        }
    }
};

template <class Kind>
void forward(const Work& net, const Task& task) {
    const typename Kind::Parameters own(net, task.stack);
    typename Kind::Scratch scratch(net);
    Tile<Kind> tile(net);
    const long outputs = net.width(net.layers);
    for (long first = task.first; first < task.last; first += TILE) {
        const long rows = std::min(TILE, task.last - first);
        tile.move(net, task, first, rows);
        float* y = net.y + (task.stack * net.samples + first) * outputs;
        Kind::forward(net, own, tile.x.data(), tile.hidden, y, rows, scratch);
    }
}

template <class Kind>
void backward(const Work& net, const Task& task) {
    const typename Kind::Parameters own(net, task.stack);
    typename Kind::Scratch scratch(net);
    Tile<Kind> tile(net);
    Sums sums(net);
    for (long first = task.first; first < task.last; first += TILE) {
        const long rows = std::min(TILE, task.last - first), row = task.stack * net.samples + first;
        tile.move(net, task, first, rows);
        float* to_x = net.to_x ? net.to_x + row * net.width(0) : nullptr;
        Kind::backward(net, own, tile.x.data(), tile.hidden, net.gradient + row * net.width(net.layers), scratch, sums,
                       to_x, rows);
    }
    sums.write(net, net.to_parameters + task.number * net.size());
}

// Forth and back at once, so that nothing between the layers leaves the cache.
template <class Kind, class LossKernel>
void fused_loss(const Work& net, const LossInputs& loss, const Task& task) {
    const typename Kind::Parameters own(net, task.stack);
    typename Kind::Scratch scratch(net);
    Tile<Kind> tile(net);
    Sums sums(net);
    LossKernel kernel(net, loss, task);
    Lines<float> y(TILE * net.outputs()), gradient(y.size());
    for (long first = task.first; first < task.last; first += TILE) {
        const long rows = std::min(TILE, task.last - first);
        tile.move(net, task, first, rows);
        Kind::forward(net, own, tile.x.data(), tile.hidden, y.data(), rows, scratch);
        kernel.compute(y.data(), first, rows, gradient.data());
        Kind::backward(net, own, tile.x.data(), tile.hidden, gradient.data(), scratch, sums, nullptr, rows);
    }
    sums.write(net, net.to_parameters + task.number * net.size());
}

template <class Part>
void run(const Work& net, Part part) {
#pragma omp parallel for num_threads(net.threads) schedule(static)
    for (long number = 0; number < net.stacks * net.splits; number++) part(net, Task(net, number));
}

}  // namespace

extern "C" {

int level() { return processor(); }

void mlp_forward(const Work& net, int level) {
    run(net, level >= AVX512 ? forward<avx512::Float32> : forward<avx2::Float32>);
}

void mlp_backward(const Work& net, int level) {
    run(net, level >= AVX512 ? backward<avx512::Float32> : backward<avx2::Float32>);
}

void mlp_fused_loss(const Work& net, int level, const LossInputs& loss) {
    run(net, [&](const Work& net, const Task& task) {
        level >= AVX512 ? fused_loss<avx512::Float32, avx512::LossKernel>(net, loss, task)
                        : fused_loss<avx2::Float32, avx2::LossKernel>(net, loss, task);
    });
}

void bfloat16_fused_loss(const Work& net, int, const LossInputs& loss) {
    run(net, [&](const Work& net, const Task& task) {
        fused_loss<avx512_bf16::BFloat16, avx512_bf16::LossKernel>(net, loss, task);
    });
}

void bfloat16_forward(const Work& net, int) { run(net, forward<avx512_bf16::BFloat16>); }

void bfloat16_backward(const Work& net, int) { run(net, backward<avx512_bf16::BFloat16>); }

void model_gradients(const Models& models, int level) {
#pragma omp parallel for num_threads(models.threads) schedule(static)
    for (long thread = 0; thread < models.threads; thread++)
        level >= AVX512 ? avx512::model_gradients(models, thread) : avx2::model_gradients(models, thread);
}

void adam_step(const Adam& adam, int level) {
#pragma omp parallel for num_threads(adam.threads) schedule(static)
    for (long set = 0; set < adam.sets; set++) level >= AVX512 ? avx512::adam_step(adam, set) : avx2::adam_step(adam, set);
}

void feature_major_forward(const Work& net, int level) {
    run(net, level >= AVX512 ? avx512::feature_major_forward : avx2::feature_major_forward);
}

void feature_major_backward(const Work& net, int level) {
    run(net, level >= AVX512 ? avx512::feature_major_backward : avx2::feature_major_backward);
}
}
