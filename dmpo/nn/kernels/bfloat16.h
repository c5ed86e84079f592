// As float32.h, with products of bfloat16 numbers, whose sums are float32, and with bfloat16 numbers between the layers.
// Included after blocks.h, for processors that multiply such numbers, two pairs at a time: the first matrix is read as
// pairs of successive columns, which is how its rows lie in memory, and of the second, word (k, j) holds rows 2k and 2k + 1
// in column j.

struct WordNumbers {  // (i, k) at from[i * row + k * step]
    const uint32_t* from;
    long row, step;
};

struct WordRows {  // row k begins at from + k * step
    const uint32_t* from;
    long step;
};

INLINE __m512i words(const uint16_t* from) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

INLINE Vector widened(const uint16_t* from) { return (Vector)_mm512_slli_epi32(words(from), 16); }

INLINE void store_rounded(uint16_t* to, Vector x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

// As tanh_of, on [-4.5, 4.5] and to four digits.
INLINE Vector rough_tanh(Vector x) {
    x = bounded(x, -4.5f, 4.5f);
    const Vector s = x * x;
    const Vector p = 9.9989495e-01f + s * (1.0335380e-01f + s * 7.0492226e-04f);
    const Vector q = 1.0f + s * (4.3635636e-01f + s * 1.3133642e-02f);
    return x * p * (Vector)_mm512_rcp14_ps((__m512)q);
}

template <int M, int N, class Begin, class End>
INLINE void word_block(WordNumbers a, WordRows b, long depth, long i, long j, Begin begin, End end) {
    __m512 sums[M][N];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) sums[m][n] = (__m512)begin(i + m, j + n * LANES);
    const uint32_t* x = a.from + i * a.row;
    const uint32_t* y = b.from + j;
    for (long k = 0; k < depth; k++, x += a.step, y += b.step) {
        __m512bh row[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) row[n] = (__m512bh)_mm512_loadu_si512(y + n * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            const __m512bh pair = (__m512bh)_mm512_set1_epi32(x[m * a.row]);
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) sums[m][n] = _mm512_dpbf16_ps(sums[m][n], pair, row[n]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) end(i + m, j + n * LANES, (Vector)sums[m][n]);
}

template <int N, class Begin, class End>
INLINE void word_strip(WordNumbers a, WordRows b, long rows, long depth, long j, Begin begin, End end) {
    long i = 0;
    for (; i + ROWS <= rows; i += ROWS) word_block<ROWS, N>(a, b, depth, i, j, begin, end);
    for (; i + 2 <= rows; i += 2) word_block<2, N>(a, b, depth, i, j, begin, end);
    if (i < rows) word_block<1, N>(a, b, depth, i, j, begin, end);
}

// As multiply; `depth` counts pairs.
template <class Begin, class End>
INLINE void multiply_words(WordNumbers a, WordRows b, long rows, long columns, long depth, Begin begin, End end) {
    long j = 0;
    for (; j + COLUMNS * LANES <= columns; j += COLUMNS * LANES) word_strip<COLUMNS>(a, b, rows, depth, j, begin, end);
    for (; j < columns; j += LANES) word_strip<1>(a, b, rows, depth, j, begin, end);
}

INLINE void add_word_products(WordNumbers a, WordRows b, long rows, long columns, long depth, float* to) {
    multiply_words(a, b, rows, columns, depth, [&](long i, long j) INLINED { return load(to + i * columns + j); },
                   [&](long i, long j, Vector sum) INLINED { store(to + i * columns + j, sum); });
}

static void round_all(const float* from, long count, uint16_t* to) {
    for (long k = 0; k < count; k += LANES) store_rounded(to + k, load(from + k));
}

// Rows 2k and 2k + 1 become row k of words; where their number is odd a row of zeros follows the last.
static void pair_rows(const uint16_t* from, long columns, long rows, uint32_t* to) {
    for (long i = 0; i < rows; i += 2)
        for (long j = 0; j < columns; j += LANES, to += LANES) {
            const uint16_t* x = from + i * columns + j;
            const __m512i high = i + 1 < rows ? words(x + columns) : _mm512_setzero_si512();
            _mm512_storeu_si512(to, _mm512_or_si512(words(x), _mm512_slli_epi32(high, 16)));
        }
}

struct BFloat16 {
    typedef uint16_t Number;

    struct Parameters : Pack {
        Lines<uint32_t> weight_pairs[MOST_LAYERS], transposed_pairs[MOST_LAYERS];

        Parameters(const Work& net, long stack) : Pack(net, stack) {
            for (long l = 0; l < net.layers; l++) {
                weight_pairs[l] = paired(weights[l], net.width(l));
                transposed_pairs[l] = paired(transposed[l], net.width(l + 1));
            }
        }

        static Lines<uint32_t> paired(const Lines<float>& matrix, long rows) {
            Lines<uint16_t> rounded(matrix.size());
            Lines<uint32_t> pairs(matrix.size());
            round_all(matrix.data(), matrix.size(), rounded.data());
            pair_rows(rounded.data(), matrix.size() / rows, rows, pairs.data());
            return pairs;
        }
    };

    // One tile's numbers, as rows and as pairs of rows.
    struct Scratch {
        Lines<uint16_t> given, gradients[2];
        Lines<uint32_t> pairs, gradient_pairs;
        Lines<float> outputs;

        explicit Scratch(const Work& net) {
            const long size = TILE * padded(net.widest());
            given.resize(size), pairs.resize(size), gradient_pairs.resize(size), outputs.resize(size);
            for (auto& each : gradients) each.resize(size);
        }
    };

    static void forward(const Work& net, const Parameters& own, const float* x, uint16_t* const* hidden, float* y,
                        long rows, Scratch& scratch);
    static void backward(const Work& net, const Parameters& own, const float* x, const uint16_t* const* hidden,
                         const float* gradient, Scratch& scratch, Sums& sums, float* to_x, long rows);
};

void BFloat16::forward(const Work& net, const Parameters& own, const float* x, uint16_t* const* hidden, float* y, long rows,
                      Scratch& scratch) {
    round_all(x, rows * padded(net.width(0)), scratch.given.data());
    const uint16_t* from = scratch.given.data();
    for (long l = 0; l + 1 < net.layers; l++) {
        const long columns = padded(net.width(l + 1));
        const float* bias = own.biases[l].data();
        uint16_t* to = hidden[l];
        multiply_words({reinterpret_cast<const uint32_t*>(from), padded(net.width(l)) / 2, 1},
                       {own.weight_pairs[l].data(), columns}, rows, columns, (net.width(l) + 1) / 2,
                       [&](long, long j) INLINED { return load(bias + j); },
                       [&](long i, long j, Vector sum) INLINED { store_rounded(to + i * columns + j, rough_tanh(sum)); });
        from = to;
    }
    const long columns = padded(net.width(net.layers - 1));
    const long outputs = net.width(net.layers), all = padded(outputs);
    const float* bias = own.biases[net.layers - 1].data();
    multiply_words({reinterpret_cast<const uint32_t*>(from), columns / 2, 1}, {own.weight_pairs[net.layers - 1].data(), all},
                   rows, all, (net.width(net.layers - 1) + 1) / 2, [&](long, long j) INLINED { return load(bias + j); },
                   [&](long i, long j, Vector sum) INLINED {
                       const __mmask16 mask = outputs - j >= LANES ? 0xffff : (1u << (outputs - j)) - 1;
                       _mm512_mask_storeu_ps(y + i * outputs + j, mask, (__m512)sum);
                   });
}

static void add_word_rows(const uint32_t* from, long columns, long depth, float* to) {
    const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (long j = 0; j < columns; j += LANES) {
        __m512 sum = (__m512)load(to + j);
        for (long k = 0; k < depth; k++)
            sum = _mm512_dpbf16_ps(sum, ones, (__m512bh)_mm512_loadu_si512(from + k * columns + j));
        store(to + j, (Vector)sum);
    }
}

// The outputs' gradient as bfloat16 numbers in padded rows, and what it adds to the last bias's.
static void begin_backward(const Work& net, const float* gradient, BFloat16::Scratch& scratch, Sums& sums, long rows) {
    const long outputs = net.width(net.layers), columns = padded(outputs);
    std::fill_n(scratch.outputs.begin(), rows * columns, 0.0f);
    for (long i = 0; i < rows; i++)
        for (long a = 0; a < outputs; a++) {
            scratch.outputs[i * columns + a] = gradient[i * outputs + a];
            sums.biases[net.layers - 1][a] += gradient[i * outputs + a];
        }
    round_all(scratch.outputs.data(), rows * columns, scratch.gradients[net.layers % 2].data());
}

void BFloat16::backward(const Work& net, const Parameters& own, const float* x, const uint16_t* const* hidden,
                       const float* gradient, Scratch& scratch, Sums& sums, float* to_x, long rows) {
    const long depth = (rows + 1) / 2;
    uint32_t *pairs = scratch.pairs.data(), *gradients = scratch.gradient_pairs.data();
    round_all(x, rows * padded(net.width(0)), scratch.given.data());
    begin_backward(net, gradient, scratch, sums, rows);
    for (long l = net.layers - 1; l >= 0; l--) {
        const long in = net.width(l), out = net.width(l + 1), columns = padded(in), above = padded(out);
        const uint16_t *y = l ? hidden[l - 1] : scratch.given.data(), *of_above = scratch.gradients[(l + 1) % 2].data();
        pair_rows(y, columns, rows, pairs);
        pair_rows(of_above, above, rows, gradients);
        if (l + 1 < net.layers) {
            add_word_rows(gradients, above, depth, sums.biases[l].data());
            add_word_products({pairs, 1, columns}, {gradients, above}, in, above, depth, sums.weights[l].data());
        } else
            add_word_products({gradients, 1, above}, {pairs, columns}, out, columns, depth, sums.weights[l].data());
        const WordNumbers from = {reinterpret_cast<const uint32_t*>(of_above), above / 2, 1};
        const WordRows back = {own.transposed_pairs[l].data(), columns};
        uint16_t* to = scratch.gradients[l % 2].data();
        if (l)
            multiply_words(from, back, rows, columns, (out + 1) / 2, zeros, [&](long i, long j, Vector sum) INLINED {
                const Vector h = widened(y + i * columns + j);
                if (net.kept) fetch(y + (i + TILE) * columns + j);
                store_rounded(to + i * columns + j, sum * (1.0f - h * h));
            });
        else if (to_x)
            multiply_words(from, back, rows, columns, (out + 1) / 2, zeros, [&](long i, long j, Vector sum) INLINED {
                store_part(to_x + i * in + j, sum, std::min<long>(LANES, in - j));
            });
    }
}
