// Arguments of the kernels, and how their work is divided among threads. The same structures stand in Python: `_Work` in
// calls.py, `_Models` in models.py, `_LossInputs` in fused.py and `_Adam` in adam.py.

#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#define INLINE inline __attribute__((always_inline))
#define INLINED __attribute__((always_inline))

constexpr int MOST_LAYERS = 9;
constexpr long PADDING = 16;  // rows of numbers are as long as a multiple of so many
constexpr long TILE = 96;     // samples that pass through all layers before the next ones do, so that they stay in cache
constexpr long STRETCH = 64;  // the same where the samples come last

// Numbers that begin with a line of the cache, as vectors do then: one across two lines is loaded twice.
template <class Number>
struct ByLine {
    typedef Number value_type;
    static constexpr std::align_val_t LINE{64};

    ByLine() = default;
    template <class Other>
    ByLine(const ByLine<Other>&) {}
    Number* allocate(size_t count) { return static_cast<Number*>(::operator new(count * sizeof(Number), LINE)); }
    void deallocate(Number* numbers, size_t) { ::operator delete(numbers, LINE); }
    bool operator==(const ByLine&) const { return true; }
    bool operator!=(const ByLine&) const { return false; }
};

template <class Number>
using Lines = std::vector<Number, ByLine<Number>>;

// Begin to bring what the next tile needs from memory, while this one is computed; an address without memory does no harm.
INLINE void fetch(const void* address) { __builtin_prefetch(address, 0, 2); }

inline long padded(long width) { return (width + PADDING - 1) / PADDING * PADDING; }

// R multilayer perceptrons (MLPs) of L layers, each with B samples.
struct Work {
    int64_t threads, stacks, splits, samples, layers;
    const int64_t* widths;           // L + 1 of them
    const float* const* parameters;  // W_1, b_1, ..., W_L, b_L, each (R, ...)
    const float* x;                  // (R, B, D) or (R, D, B); with sources, the states (S, N, D / K)
    const int64_t* sources;          // (N, K), the agents whose states agent i receives, -1 for zeros; or none
    int64_t agents, places;          // N, K
    void* const* kept;               // outputs of the hidden layers, for the gradient; or none
    float* y;                        // (R, B, outputs) or (R, outputs, B)
    const float* gradient;           // of y
    float* to_parameters;            // (R, splits, P), in the order of `parameters`
    float* to_x;                     // as x; or none
    int64_t last_relu;

    long width(long layer) const { return widths[layer]; }
    long outputs() const { return widths[layers]; }
    long widest() const { return *std::max_element(widths, widths + layers + 1); }

    long size() const {
        long size = 0;
        for (long l = 0; l < layers; l++) size += (widths[l] + 1) * widths[l + 1];
        return size;
    }
};

// Samples first ... last - 1 of one MLP: the part of the work that one thread does at once.
struct Task {
    long number, stack, first, last;

    Task(const Work& work, long number) : number(number), stack(number / work.splits) {
        const long split = number % work.splits;
        first = work.samples * split / work.splits;
        last = work.samples * (split + 1) / work.splits;
    }
};

enum LossKind { SQUARES, GAUSSIAN, CATEGORICAL };

// Inputs of the losses of N agents' MLPs on S samples, and the place of their results; see fused.py.
struct LossInputs {
    int64_t kind;
    float clip, entropy_coef;
    const float* targets;           // (S, N): targets of the outputs; or old log-probabilities of the actions
    const float* advantages;        // (S, N)
    const void* actions;            // (S, N, A) float32 or, where they are discrete, (S, N) int64
    const float* old_dist_params;   // (S, N, P), of the policies that collected the samples; or none
    const float* log_std;           // (N, A)
    double* result;                 // (N, splits, 2 + A): sums of losses and divergences, gradient of log_std

    long width(const Work& net) const { return 2 + (kind == GAUSSIAN ? net.outputs() : 0); }
};

// R sets of parameters, each of P numbers in `count` tensors; see adam.py.
struct Adam {
    int64_t threads, sets, size, count;
    const int64_t *sizes, *strides;   // of each tensor: numbers of a set, and from one set's gradient to the next
    float* const* parameters;         // (R, ...) each
    const float* const* gradients;    // the same
    float *first, *second, *steps;    // (R, P), (R, P) and (R, 1)
    const bool* active;               // (R,)
    float max_norm, rate, epsilon, beta_1, beta_2;
};

// The localized models of N agents with M edges, and B sequences of H steps for them; see `model_gradients` in model.h.
struct Models {
    int64_t threads, agents, edges, features, action_width, samples, steps;
    int64_t neighbor_actions;        // whether neighbors receive actions as well as states
    int64_t own_gradient;            // whether no gradient goes back to the sender of a message
    float far, reward_coef, scale;
    const Work *encoder, *edge, *node;
    const int64_t *pairs, *targets;  // (M, 2), receiver and sender of each edge, and (M,), the receiver
    const float *state, *actions;    // (N, D, B) and (N, W, H, B)
    const float* next_states;        // (H, N, D, B)
    const float *rewards, *terminated;  // (H, N, B) and (H, B)
    const float *ratio, *drift;      // (N, D)
    float* to_actions;               // (N, W, H, B)
};
