// An MLP with max(·, 0) between its layers and the samples last, y_1 = max(W_1 x + b_1, 0), ..., where each layer
// has a few numbers only, and its gradient. Included once for every level of processor, after blocks.h.

constexpr long CONTRACTED = 4;  // rows of either matrix whose products are summed at a time

// Of some samples, rows as vectors want them: as they lie there where there are as many as a stretch has, or copied.
struct Stretches {
    Lines<float> copy;

    Rows operator()(const Work& net, const Task& task, const float* all, long layer, long first, long count) {
        const long rows = net.width(layer);
        const float* from = all + task.stack * rows * net.samples + first;
        if (count == STRETCH) return {from, net.samples};
        copy.assign(rows * STRETCH, 0.0f);
        for (long i = 0; i < rows; i++)
            std::copy(from + i * net.samples, from + i * net.samples + count, &copy[i * STRETCH]);
        return {copy.data(), STRETCH};
    }
};

static void keep(const Work& net, const Task& task, const float* from, long layer, long first, long count, float* all) {
    const long rows = net.width(layer);
    float* to = all + task.stack * rows * net.samples + first;
    for (long i = 0; i < rows; i++) std::copy(from + i * STRETCH, from + i * STRETCH + count, to + i * net.samples);
}

INLINE Vector positive(Vector x) { return x < 0.0f ? Vector{} : x; }  // a NaN stays one

// Some samples through all layers; `to[l]` is where layer l writes, in rows of STRETCH.
static void forward_layers(const Work& net, long stack, Rows x, float* const* to, long samples) {
    for (long l = 0; l < net.layers; l++) {
        const long in = net.width(l), out = net.width(l + 1);
        const float* bias = net.parameters[2 * l + 1] + stack * out;
        const Numbers weight = {net.parameters[2 * l] + stack * out * in, in, 1};
        float* y = to[l];
        const auto begin = [&](long i, long) INLINED { return Vector{} + bias[i]; };
        if (l + 1 < net.layers || net.last_relu)
            multiply(weight, x, out, samples, in, begin,
                     [&](long i, long j, Vector sum) INLINED { store(y + i * STRETCH + j, positive(sum)); });
        else
            multiply(weight, x, out, samples, in, begin,
                     [&](long i, long j, Vector sum) INLINED { store(y + i * STRETCH + j, sum); });
        x = {y, STRETCH};
    }
}

static void feature_major_forward(const Work& net, const Task& task) {
    Stretches stretches;
    Lines<float> scratch[MOST_LAYERS];
    float* to[MOST_LAYERS];
    for (long l = 0; l < net.layers; l++) {
        scratch[l].resize(net.width(l + 1) * STRETCH);
        to[l] = scratch[l].data();
    }
    for (long first = task.first; first < task.last; first += STRETCH) {
        const long count = std::min(STRETCH, task.last - first);
        forward_layers(net, task.stack, stretches(net, task, net.x, 0, first, count), to, padded(count));
        for (long l = 0; l + 1 < net.layers && net.kept; l++)
            keep(net, task, to[l], l + 1, first, count, static_cast<float*>(net.kept[l]));
        keep(net, task, to[net.layers - 1], net.layers, first, count, net.y);
    }
}

// to(i, j) += Σ_t a(i, t) b(j, t)
template <int M, int N>
INLINE void contract_block(Rows a, Rows b, long inputs, long samples, long i, long j, float* to) {
    constexpr int VECTORS = (M * N + LANES - 1) / LANES * LANES;
    Vector sums[VECTORS] = {};
    for (long t = 0; t < samples; t += LANES) {
        Vector x[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) x[n] = load(b.from + (j + n) * b.step + t);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            const Vector gradient = load(a.from + (i + m) * a.step + t);
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) sums[m * N + n] += gradient * x[n];
        }
    }
    float added[VECTORS];
#pragma GCC unroll 8
    for (int k = 0; k < VECTORS; k += LANES) store(added + k, sums_of(sums + k));
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) to[(i + m) * inputs + j + n] += added[m * N + n];
}

template <int M>
INLINE void contract_rows(Rows a, Rows b, long inputs, long samples, long i, float* to) {
    long j = 0;
    for (; j + CONTRACTED <= inputs; j += CONTRACTED) contract_block<M, CONTRACTED>(a, b, inputs, samples, i, j, to);
    for (; j < inputs; j++) contract_block<M, 1>(a, b, inputs, samples, i, j, to);
}

static void contract(Rows a, Rows b, long outputs, long inputs, long samples, float* to) {
    long i = 0;
    for (; i + CONTRACTED <= outputs; i += CONTRACTED) contract_rows<CONTRACTED>(a, b, inputs, samples, i, to);
    for (; i < outputs; i++) contract_rows<1>(a, b, inputs, samples, i, to);
}

static void add_columns(Rows a, long rows, long samples, float* to) {
    for (long i = 0; i < rows; i += LANES) {
        const long count = std::min<long>(LANES, rows - i);
        Vector sums[LANES] = {};
        for (long lane = 0; lane < count; lane++)
            for (long t = 0; t < samples; t += LANES) sums[lane] += load(a.from + (i + lane) * a.step + t);
        store_part(to + i, sums_of(sums) + load_part(to + i, count), count);
    }
}

// Parameters' gradients, in their order, summed where they are wanted.
struct ColumnSums {
    float* all;
    long starts[2 * MOST_LAYERS];

    ColumnSums(const Work& net, float* to) : all(to) {
        std::fill_n(all, net.size(), 0.0f);
        long next = 0;
        for (long l = 0; l < net.layers; l++) {
            starts[2 * l] = next;
            starts[2 * l + 1] = next += net.width(l + 1) * net.width(l);
            next += net.width(l + 1);
        }
    }

    float* weight(long l) { return &all[starts[2 * l]]; }
    float* bias(long l) { return &all[starts[2 * l + 1]]; }
};

// Where the last layer has a max as well: its outputs' gradient, zero where that cut off.
static Rows through_last(const Work& net, Rows above, Rows y, long samples, float* to) {
    for (long i = 0; i < net.width(net.layers); i++)
        for (long t = 0; t < samples; t += LANES) {
            const Vector gradient = load(above.from + i * above.step + t);
            store(to + i * STRETCH + t, load(y.from + i * y.step + t) <= 0.0f ? Vector{} : gradient);
        }
    return {to, STRETCH};
}

// Of some samples: what `above`, the gradient of the last layer before its max, adds to the sums, and the gradient of x
// where it is asked for, in rows of STRETCH. given[l] is what layer l was given.
static void backward_layers(const Work& net, long stack, const Rows* given, Rows above, Lines<float>* scratch,
                            ColumnSums& sums, float* to_x, long samples) {
    for (long l = net.layers - 1; l >= 0; l--) {
        const long in = net.width(l), out = net.width(l + 1);
        const Rows x = given[l];
        add_columns(above, out, samples, sums.bias(l));
        contract(above, x, out, in, samples, sums.weight(l));
        const Numbers back = {net.parameters[2 * l] + stack * out * in, 1, in};
        float* to = l ? scratch[l % 2].data() : to_x;
        if (l)
            multiply(back, above, in, samples, out, zeros, [&](long i, long j, Vector sum) INLINED {
                store(to + i * STRETCH + j, load(x.from + i * x.step + j) <= 0.0f ? Vector{} : sum);
            });
        else if (to_x)
            multiply(back, above, in, samples, out, zeros,
                     [&](long i, long j, Vector sum) INLINED { store(to + i * STRETCH + j, sum); });
        above = {to, STRETCH};
    }
}

static void feature_major_backward(const Work& net, const Task& task) {
    Stretches stretches[MOST_LAYERS], of_gradient, of_y;
    Lines<float> scratch[2], cut(net.width(net.layers) * STRETCH), to_x(net.width(0) * STRETCH);
    for (auto& each : scratch) each.resize(net.widest() * STRETCH);
    ColumnSums sums(net, net.to_parameters + task.number * net.size());
    for (long first = task.first; first < task.last; first += STRETCH) {
        const long count = std::min(STRETCH, task.last - first), samples = padded(count);
        Rows above = of_gradient(net, task, net.gradient, net.layers, first, count), given[MOST_LAYERS];
        if (net.last_relu)
            above = through_last(net, above, of_y(net, task, net.y, net.layers, first, count), samples, cut.data());
        for (long l = 0; l < net.layers; l++)
            given[l] = stretches[l](net, task, l ? static_cast<const float*>(net.kept[l - 1]) : net.x, l, first, count);
        backward_layers(net, task.stack, given, above, scratch, sums, net.to_x ? to_x.data() : nullptr, samples);
        if (net.to_x) keep(net, task, to_x.data(), 0, first, count, net.to_x);
    }
}
