// Vectors of LANES float32 numbers, a Register's, and products of small matrices, of which ROWS × COLUMNS vectors of sums
// are kept in registers at a time. Included once for every level of processor, into a namespace of its own: hence no guard.

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }

INLINE void store(float* to, Vector x) { *reinterpret_cast<Vector*>(to) = x; }

INLINE void store_part(float* to, Vector x, long count) {
    for (long lane = 0; lane < count; lane++) to[lane] = x[lane];
}

INLINE Vector load_part(const float* from, long count) {
    Vector x = {};
    for (long lane = 0; lane < count; lane++) x[lane] = from[lane];
    return x;
}

typedef int32_t Places __attribute__((vector_size(4 * LANES)));

// In every group of 2 W lanes first sums of x, then of y, each over lanes that are W apart.
template <int W>
INLINE Vector folded(Vector x, Vector y) {
    Places low{}, high{};
#pragma GCC unroll 16
    for (int lane = 0; lane < LANES; lane++) {
        low[lane] = lane % (2 * W) < W ? lane : lane - W + LANES;
        high[lane] = low[lane] + W;
    }
    return __builtin_shuffle(x, y, low) + __builtin_shuffle(x, y, high);
}

// Lane k is the sum of all lanes of x[k].
template <int W = LANES / 2>
INLINE Vector sums_of(const Vector* x) {
    Vector half[W];
#pragma GCC unroll 8
    for (int k = 0; k < W; k++) half[k] = folded<W>(x[k], x[k + W]);
    if constexpr (W == 1)
        return half[0];
    else
        return sums_of<W / 2>(half);
}

// x, but no less than `least` and no more than `most`; a NaN stays one, on which checks for diverged networks rely.
INLINE Vector bounded(Vector x, float least, float most) {
    const Vector low = Vector{} + least, high = Vector{} + most;
    return (Vector)larger((Register)low, smaller((Register)high, (Register)x));
}

// tanh x as the odd rational function of its degree with the smallest absolute error on [-9, 9] (2e-8; 4e-7 as rounded).
INLINE Vector tanh_of(Vector x) {
    x = bounded(x, -9.0f, 9.0f);
    const Vector s = x * x;
    Vector p = 2.047181653e-05f + s * 1.318420656e-08f;
    p = 9.999999064e-01f + s * (1.337319690e-01f + s * (3.486580973e-03f + s * p));
    const Vector q = 2.584197562e-02f + s * (3.271383932e-04f + s * 7.702655965e-07f);
    return x * p / (1.0f + s * (4.670649376e-01f + s * q));
}

// A matrix that is read number by number: (i, k) at from[i * row + k * step].
struct Numbers {
    const float* from;
    long row, step;
};

// A matrix that is read vector by vector: row k begins at from + k * step.
struct Rows {
    const float* from;
    long step;
};

template <int M, int N, class Begin, class End>
INLINE void block(Numbers a, Rows b, long depth, long i, long j, Begin begin, End end) {
    Vector sums[M][N];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) sums[m][n] = begin(i + m, j + n * LANES);
    const float* x = a.from + i * a.row;
    const float* y = b.from + j;
    for (long k = 0; k < depth; k++, x += a.step, y += b.step) {
        Vector row[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) row[n] = load(y + n * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) sums[m][n] += x[m * a.row] * row[n];
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) end(i + m, j + n * LANES, sums[m][n]);
}

template <int N, class Begin, class End>
INLINE void strip(Numbers a, Rows b, long rows, long depth, long j, Begin begin, End end) {
    long i = 0;
    for (; i + ROWS <= rows; i += ROWS) block<ROWS, N>(a, b, depth, i, j, begin, end);
    for (; i + 2 <= rows; i += 2) block<2, N>(a, b, depth, i, j, begin, end);
    if (i < rows) block<1, N>(a, b, depth, i, j, begin, end);
}

// end(i, j, begin(i, j) + Σ_k a(i, k) b(k, j ... j + LANES - 1)) for all i < rows and j < columns, a multiple of LANES.
template <class Begin, class End>
INLINE void multiply(Numbers a, Rows b, long rows, long columns, long depth, Begin begin, End end) {
    long j = 0;
    for (; j + COLUMNS * LANES <= columns; j += COLUMNS * LANES) strip<COLUMNS>(a, b, rows, depth, j, begin, end);
    for (; j < columns; j += LANES) strip<1>(a, b, rows, depth, j, begin, end);
}

INLINE Vector zeros(long, long) { return Vector{}; }

// to(i, j) += Σ_k a(i, k) b(k, j)
INLINE void add_products(Numbers a, Rows b, long rows, long columns, long depth, float* to) {
    multiply(a, b, rows, columns, depth, [&](long i, long j) INLINED { return load(to + i * columns + j); },
             [&](long i, long j, Vector sum) INLINED { store(to + i * columns + j, sum); });
}
