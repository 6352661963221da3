// Phase 2 of a chunked schedule: the states at the start of every chunk, from chunk to chunk: z <- M z + b (forward.cu and
// backward.cu with ENDS give b, and M where it is not a power of a step's). One thread walks the C chunks of one neuron; `back`: from
// the last chunk to the first, for the gradients of the states.
//
// Shapes: vector, starts [STATES, C, N]; start [STATES, N], null where all begin with the numbers `begin`; matrix [STATES, STATES,
// C or 1, N or 1], `between` and `beside` its strides over chunks and neurons (0 for 1), null where all have the numbers `same`.
// Words per chunk and neuron: STATES read, STATES written, and STATES * STATES read where each has a matrix of its own: with
// chunks of L steps, 1/L of that for an element-step.
//
// In double, so that only phase 1 rounds: that is a handful of operations for a chunk. Where a state or an entry is 0, the other stays
// out of the other states, though it may have grown beyond all numbers. What is read of AHEAD chunks is loaded before the first of them
// is used: the walk waits for the memory C / AHEAD times. A scan over the lanes of a warp would take log2 C rounds of STATES times the operations; with
// C = 256 and AHEAD = 16 there are 16 waits, as few as in phases 1 and 3. Not measured on a GPU so far.
//
// Compile-time options: REAL, MATRIX (the matrix's type), STATES, AHEAD.

typedef REAL real;

struct Numbers {
    double same[STATES * STATES], begin[STATES];
};

extern "C" __global__ void combine(
    const MATRIX *__restrict__ matrix, const real *__restrict__ vector, const real *__restrict__ start, real *__restrict__ starts,
    const long long chunks, const long long neurons, const long long between, const long long beside, const long long back,
    const Numbers numbers) {
    const long long n = blockIdx.x * (long long)blockDim.x + threadIdx.x, columns = chunks * neurons;
    if (n >= neurons) return;
    const long long entries = (between ? chunks : 1) * (beside ? neurons : 1);  // of one element of the matrix
    double z[STATES];
    for (int k = 0; k < STATES; ++k) z[k] = start ? double(start[k * neurons + n]) : numbers.begin[k];
    for (long long first = 0; first < chunks; first += AHEAD) {
        MATRIX m[AHEAD][STATES][STATES];
        real b[AHEAD][STATES];
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
            if (first + a >= chunks) continue;
            const long long c = back ? chunks - 1 - first - a : first + a;
            for (int k = 0; k < STATES; ++k) {
                b[a][k] = vector[k * columns + c * neurons + n];
                for (int l = 0; l < STATES; ++l)
                    if (matrix) m[a][k][l] = matrix[(k * STATES + l) * entries + c * between + n * beside];
            }
        }
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
            if (first + a >= chunks) continue;
            const long long c = back ? chunks - 1 - first - a : first + a;
            double after[STATES];
            for (int k = 0; k < STATES; ++k) {
                starts[k * columns + c * neurons + n] = real(z[k]);
                after[k] = 0;
                for (int l = 0; l < STATES; ++l) {
                    const double entry = matrix ? double(m[a][k][l]) : numbers.same[k * STATES + l];
                    if (z[l] != 0 && (entry != 0 || k == l)) after[k] += entry * z[l];
                }
                after[k] += double(b[a][k]);
            }
            for (int k = 0; k < STATES; ++k) z[k] = after[k];
        }
    }
}
