// A step of Adam for one set of parameters, whose gradient is clipped to its own norm; see `dmpo.nn.functional.adam`.
// Included once for every level of processor, after blocks.h.

// what(k, get, put) for numbers k ... k + LANES - 1, or fewer at the end, which is how many get reads and put writes.
template <class What>
INLINE void in_vectors(long size, What what) {
    long k = 0;
    for (; k + LANES <= size; k += LANES) what(k, [](const float* x) INLINED { return load(x); }, store);
    const long rest = size - k;
    if (rest)
        what(k, [=](const float* x) INLINED { return load_part(x, rest); },
             [=](float* to, Vector x) INLINED { store_part(to, x, rest); });
}

static float norm_of(const Adam& adam, long set) {
    double squares = 0.0;
    for (long p = 0; p < adam.count; p++) {
        const float* gradient = adam.gradients[p] + set * adam.strides[p];
        Vector sums = {};
        in_vectors(adam.sizes[p], [&](long k, auto get, auto) INLINED { sums += get(gradient + k) * get(gradient + k); });
        for (long lane = 0; lane < LANES; lane++) squares += sums[lane];
    }
    return std::sqrt(squares);
}

static void adam_step(const Adam& adam, long set) {
    if (!adam.active[set]) return;
    const float norm = norm_of(adam, set), scale = norm <= adam.max_norm ? 1.0f : adam.max_norm / norm;
    const float taken = adam.steps[set] += 1.0f;
    const float rate = adam.rate / (1.0f - std::pow(adam.beta_1, taken)), share = 1.0f - std::pow(adam.beta_2, taken);
    float *first = adam.first + set * adam.size, *second = adam.second + set * adam.size;
    for (long p = 0; p < adam.count; p++) {
        const long size = adam.sizes[p];
        const float* gradients = adam.gradients[p] + set * adam.strides[p];
        float* parameters = adam.parameters[p] + set * size;
        in_vectors(size, [&](long k, auto get, auto put) INLINED {
            const Vector gradient = scale * get(gradients + k), mean = get(first + k), square = get(second + k);
            const Vector new_mean = mean + (1.0f - adam.beta_1) * (gradient - mean);
            const Vector new_square = square + (1.0f - adam.beta_2) * (gradient * gradient - square);
            put(first + k, new_mean);
            put(second + k, new_square);
            const Vector root = (Vector)square_root((Register)(new_square / share)) + adam.epsilon;
            put(parameters + k, get(parameters + k) - rate * new_mean / root);
        });
        first += size, second += size;
    }
}
