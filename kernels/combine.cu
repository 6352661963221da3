// Phase 2 of a chunked schedule: the states at the start of every chunk, from chunk to chunk: z <- M z + b (forward.cu and
// backward.cu with ENDS give M and b). One thread walks the C chunks of one neuron; `back`: from the last chunk to the first, for
// the gradients of the states.
//
// Shapes: vector, starts [STATES, C, N]; start [STATES, N]; matrix [STATES, STATES, C or 1, N or 1], `between` and `beside` its strides over
// chunks and neurons (0 for 1); or (null) the numbers `same`, by value.
// Words per chunk and neuron: STATES read, STATES written, and STATES * STATES read where the matrix is one of its own: with chunks
// of L steps, 1/L of that for an element-step.
//
// What is read of AHEAD chunks is loaded before the first of them is used: the walk waits for the memory C / AHEAD times. The chain
// of a chunk is one multiplication and STATES additions. A scan over the lanes of a warp would take log2 C rounds of STATES times the
// operations; with C = 256 and AHEAD = 16 there are 16 waits, as few as those of phases 1 and 3. Not measured on a GPU so far.
//
// Compile-time options: REAL, STATES, AHEAD.

typedef REAL real;

struct Matrix {
    real value[STATES * STATES];
};

extern "C" __global__ void combine(
    const real *__restrict__ matrix, const real *__restrict__ vector, const real *__restrict__ start, real *__restrict__ starts,
    const long long chunks, const long long neurons, const long long between, const long long beside, const long long back,
    const Matrix same) {
    const long long n = blockIdx.x * (long long)blockDim.x + threadIdx.x, columns = chunks * neurons;
    if (n >= neurons) return;
    const long long entries = (between ? chunks : 1) * (beside ? neurons : 1);  // of one element of the matrix
    real z[STATES];
    for (int k = 0; k < STATES; ++k) z[k] = start[k * neurons + n];
    for (long long first = 0; first < chunks; first += AHEAD) {
        real m[AHEAD][STATES][STATES], b[AHEAD][STATES];
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
            if (first + a >= chunks) continue;
            const long long c = back ? chunks - 1 - first - a : first + a;
            for (int k = 0; k < STATES; ++k) b[a][k] = vector[k * columns + c * neurons + n];
            for (int k = 0; k < STATES; ++k)
                for (int l = 0; l < STATES; ++l) {
                    const int entry = k * STATES + l;
                    m[a][k][l] = matrix ? matrix[entry * entries + c * between + n * beside] : same.value[entry];
                }
        }
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
            if (first + a >= chunks) continue;
            const long long c = back ? chunks - 1 - first - a : first + a;
            real after[STATES];
            for (int k = 0; k < STATES; ++k) {
                starts[k * columns + c * neurons + n] = z[k];
                after[k] = m[a][k][0] * z[0];
                for (int l = 1; l < STATES; ++l) after[k] += m[a][k][l] * z[l];
                after[k] += b[a][k];
            }
            for (int k = 0; k < STATES; ++k) z[k] = after[k];
        }
    }
}
