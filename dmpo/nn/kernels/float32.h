// An MLP with tanh between its layers, y_1 = tanh(x W_1 + b_1), ..., y_L = y_(L-1) W_L + b_L, and its gradient, some
// samples at a time. Included once for every level of processor, after blocks.h.

struct Float32 {
    typedef float Number;  // what hidden layers' outputs are kept as

    struct Parameters : Pack {
        using Pack::Pack;
    };

    struct Scratch {
        Lines<float> gradients[2];

        explicit Scratch(const Work& net) {
            for (auto& each : gradients) each.resize(TILE * padded(net.widest()));
        }
    };

    static void forward(const Work& net, const Parameters& own, const float* x, float* const* hidden, float* y, long rows,
                        Scratch&);
    static void backward(const Work& net, const Parameters& own, const float* x, const float* const* hidden,
                         const float* gradient, Scratch& scratch, Sums& sums, float* to_x, long rows);
};

// y = x W + b for few outputs; product(i, a) gives LANES numbers that add up to that of row i and column a of W.
template <class Product>
INLINE void last_layer(const Work& net, const Pack& own, Product product, float* y, long rows) {
    const long l = net.layers - 1, outputs = net.width(net.layers), all = rows * outputs;
    long i = 0, a = 0;
    for (long first = 0; first < all; first += LANES) {
        const long count = std::min<long>(LANES, all - first);
        Vector products[LANES], bias = {};
        for (long lane = 0; lane < LANES; lane++) {
            products[lane] = lane < count ? product(i, a) : Vector{};
            bias[lane] = own.biases[l][a];
            if (++a == outputs) a = 0, i++;
        }
        if (count == LANES)
            store(y + first, sums_of(products) + bias);
        else
            store_part(y + first, sums_of(products) + bias, count);
    }
}

void Float32::forward(const Work& net, const Parameters& own, const float* x, float* const* hidden, float* y, long rows,
                    Scratch&) {
    Numbers from = {x, padded(net.width(0)), 1};
    for (long l = 0; l + 1 < net.layers; l++) {
        const long columns = padded(net.width(l + 1));
        const float* bias = own.biases[l].data();
        float* to = hidden[l];
        multiply(from, {own.weights[l].data(), columns}, rows, columns, net.width(l),
                 [&](long, long j) INLINED { return load(bias + j); },
                 [&](long i, long j, Vector sum) INLINED { store(to + i * columns + j, tanh_of(sum)); });
        from = {to, columns, 1};
    }
    const float* weight = own.transposed[net.layers - 1].data();
    const auto product = [&](long i, long a) INLINED {
        Vector sum = {};
        for (long k = 0; k < from.row; k += LANES) sum += load(from.from + i * from.row + k) * load(weight + a * from.row + k);
        return sum;
    };
    last_layer(net, own, product, y, rows);
}

template <int N>
INLINE void add_rows_of(const float* from, long columns, long rows, float* to) {
    Vector sums[N];  // one after the other each sum would wait for the addition before
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) sums[n] = load(to + n * LANES);
    for (long i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) sums[n] += load(from + i * columns + n * LANES);
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) store(to + n * LANES, sums[n]);
}

static void add_rows(const float* from, long columns, long rows, float* to) {
    long j = 0;
    for (; j + COLUMNS * LANES <= columns; j += COLUMNS * LANES) add_rows_of<COLUMNS>(from + j, columns, rows, to + j);
    for (; j < columns; j += LANES) add_rows_of<1>(from + j, columns, rows, to + j);
}

static void add_last(const Work& net, Numbers x, const float* gradient, Sums& sums, long rows) {
    const long l = net.layers - 1, outputs = net.width(net.layers);
    for (long i = 0; i < rows; i++)
        for (long a = 0; a < outputs; a++) sums.biases[l][a] += gradient[i * outputs + a];
    add_products({gradient, 1, outputs}, {x.from, x.step}, outputs, x.step, rows, sums.weights[l].data());
}

void Float32::backward(const Work& net, const Parameters& own, const float* x, const float* const* hidden,
                     const float* gradient, Scratch& scratch, Sums& sums, float* to_x, long rows) {
    const long outputs = net.width(net.layers), inputs = net.width(0);
    const auto below = [&](long l) { return Numbers{l ? hidden[l - 1] : x, 1, padded(net.width(l))}; };
    add_last(net, below(net.layers - 1), gradient, sums, rows);
    Numbers above = {gradient, outputs, 1};
    for (long l = net.layers - 1; l > 0; l--) {
        const long columns = padded(net.width(l));
        const float* y = hidden[l - 1];
        float* to = scratch.gradients[l % 2].data();
        multiply(above, {own.transposed[l].data(), columns}, rows, columns, net.width(l + 1), zeros,
                 [&](long i, long j, Vector sum) INLINED {
                     const Vector h = load(y + i * columns + j);
                     if (net.kept) fetch(y + (i + TILE) * columns + j);
                     store(to + i * columns + j, sum * (1.0f - h * h));
                 });
        above = {to, columns, 1};
        add_rows(to, columns, rows, sums.biases[l - 1].data());
        add_products(below(l - 1), {to, columns}, net.width(l - 1), columns, rows, sums.weights[l - 1].data());
    }
    if (to_x)
        multiply(above, {own.transposed[0].data(), padded(inputs)}, rows, padded(inputs), net.width(1), zeros,
                 [&](long i, long j, Vector sum) INLINED {
                     store_part(to_x + i * inputs + j, sum, std::min<long>(LANES, inputs - j));
                 });
}
