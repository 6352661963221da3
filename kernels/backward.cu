// Fused backward pass: one launch runs the adjoint of all T time steps, VECTOR neurons in each thread (the twin of backward.py).
//
// Time is walked backwards in chunks of CHUNK steps. What the adjoint needs of each step (q: for LIF the charged
// potential) is read back (KEEP_POTENTIAL; as bits: KEEP_BITS), or recomputed for the chunk from the states at its start
// and x (KEEP_INPUT). A chunk's q stays in registers, and then all loops over it are unrolled, or in shared memory (SHARED), where
// each thread has words of its own and none waits for another. x and g_out of AHEAD steps are loaded before the first of
// them is used.
//
// Shapes: x (read only with KEEP_INPUT), g_out, g_x [T, N] (CONSTANT: x and g_x, which adds up the steps, are [1, N]); g_watched
// (TRACED: the gradients of what the forward pass handed out) [T, WATCHED, N]; g_state, start (read only with KEEP_INPUT), g_start
// [STATES, N]; per_neuron, lengths, kept as in forward.cu; g_learned [LEARNED, N]. What is absent is null: g_state where the last state
// was not used, start where all neurons begin alike, g_start where it is not requested. A learned parameter's gradient is summed over time
// in a register; torch adds up the neurons that share it.
// With CHUNKED, g_state, g_start, g_learned and the g_x of a CONSTANT x have a column for each pair of a chunk and a neuron; start
// has N: behind the first chunk they begin with what was saved. ENDS writes g_start and matrix [STATES, STATES, C N] alone: the gradients
// at a chunk's start are matrix g + g_start of those at its end, g, where g_state is null.
// Words per element-step: g_out read, g_x written, plus WATCHED read for TRACED, NEEDS read for "potential", 1 + STATES / CHUNK for "input",
// WIDTH / 32 for "bits".
//
// Versions (registers and instructions of an element-step: LIF, keep="input", float32, sm_90):
//   1  one thread per neuron, 4-byte accesses, chunks of 32 steps: 48 registers
//   2  16-byte accesses, AHEAD = 4 steps in flight before the first use, chunks of 32: 251, and learned parameters spill
//   3  chunks of 16 steps (8 in half precision): 151 registers, 57 instructions, 24 KB in flight
//   4  divisions by what is known in three operations (divide.cuh), those of gradients by an approximate reciprocal, a chunk's
//      values in shared memory: 86 registers, 29 instructions, 80 KB in flight
//   5  nothing is moved for an end of time that is not requested: on an H200, T = 32, 0.96 -> 1.00 of a copy's pace in float32,
//      0.88 -> 0.92 in bfloat16
//   6  parameters that groups of neurons share, lengths, a constant x, traces: not measured on a GPU so far
//   7  CHUNKED, ENDS: chunks of time side by side (this one; part.cuh has what they cost); without them the code of version 6. The
//      matrix comes along in the same walk: 31 instructions instead of 29, 14 instead of 12 with keep="potential"; as launches
//      of its own it would read all again
// Counted there (ncu, version 4): the DRAM moves what is derived, 32 % (float32) and 60 % (bfloat16) of the issue slots are used, and
// warps wait for the memory. Evict-first loads and stores: 3 to 7 % slower; version 4 with learned parameters in bfloat16: 6 % faster.
// __launch_bounds__(THREADS) made the compiler save registers for more blocks, and spill.
//
// Builds of LIF, as compiled (tools/candidates.py writes this table); the first of each dtype and keep is the default.
// regs: registers of a thread; instr: instructions issued for an element-step; KB: bytes in flight of a multiprocessor;
// share: predicted, of the pace of a copy of the least bytes; found: measured, where it was (T = 32, N = 4,194,304;
// benchmarks/results, `python -m benchmarks.gpu`).
//
// x        keep      vector ahead chunk held in   | sm_80 (A100)            | sm_90 (H200)                   | sm_100 (B200)
//                                               | regs  instr   KB  share | regs  instr   KB  share  found | regs  instr   KB  share
// float32  input       4     8    16  shared    |   78   29.0   64   0.98 |   88   29.1   80   0.98   1.00 |   97   31.5   64   0.96
// float32  input       4     8    16  registers |  128   26.8   64   0.98 |  128   26.8   64   0.98   1.00 |  122   28.4   64   0.96
// float32  input       4     4    16  shared    |   51   29.9   32   0.98 |   54   29.9   48   0.97        |   63   31.9   48   0.95
// float32  input       2     8    16  shared    |   55   32.8   72   0.98 |   62   33.2   64   0.97   1.00 |   62   36.3   64   0.95
// bfloat16 input       4     8     8  shared    |   64   29.8   64   0.92 |   66   30.8   56   0.89   0.94 |   64   32.8   64   0.78
// bfloat16 input       4     8     8  registers |   70   29.7   56   0.92 |   76   30.6   48   0.89   0.93 |   96   32.7   40   0.77
// bfloat16 input       4     4     8  shared    |   42   33.2   36   0.91 |   54   34.3   36   0.87   0.90 |   64   35.7   32   0.73
// bfloat16 input       2     8     8  shared    |   48   33.3   40   0.91 |   48   34.4   40   0.87   0.91 |   56   36.4   36   0.73
// float32  potential   4     8                  |   80   11.6  192   1.00 |   80   11.5  192   1.00        |   78   12.9  192   1.00
// float32  potential   4     4                  |   56   11.8  144   1.00 |   56   11.7  144   1.00        |   56   13.6  144   1.00
// float32  potential   2     8                  |   48   13.9  160   1.00 |   48   14.0  160   1.00        |   48   16.1  160   1.00
// bfloat16 potential   4     8                  |   64   13.1  192   1.00 |   66   13.5  168   1.00        |   86   15.0  120   0.99
// bfloat16 potential   4     4                  |   48   13.1  120   1.00 |   54   13.8  108   1.00        |   48   15.6  120   0.99
// bfloat16 potential   2     8                  |   40   15.6  144   1.00 |   40   16.1  144   1.00        |   48   18.6  120   0.99
// float32  bits        4     8                  |   77    7.5   96   1.00 |   78    7.5   96   1.00   0.96 |   48    8.5  160   1.00
// float32  bits        4     4                  |   52   13.1   72   1.00 |   46   13.9   80   1.00   0.95 |   40   11.5   96   1.00
// float32  bits        2     8                  |   44    9.6   80   1.00 |   44    9.6   80   1.00   0.95 |   32   11.2  128   1.00
// bfloat16 bits        4     8                  |   62    9.0   64   1.00 |   77    9.5   48   1.00   0.93 |   78   10.4   48   0.98
// bfloat16 bits        4     4                  |   43   14.7   40   1.00 |   46   16.3   40   0.98   0.93 |   52   13.8   36   0.94
// bfloat16 bits        2     8                  |   38   11.1   48   1.00 |   44   11.6   40   0.99   0.89 |   48   13.5   40   0.95

#include "neuron.cuh"
#include "pack.cuh"
#include "part.cuh"
#include "chunk.cuh"

// With ENDS a second to (1 + STATES)-th pass runs along: the states' gradients at the chunk's end are a unit vector there and nothing
// else arrives, which gives a column of the matrix from the gradients at its end to those at its start.
#define PASSES (ENDS ? 1 + STATES : 1)

__device__ __forceinline__ void store_matrix(
    real *matrix, long long columns, long long column, const real (*g)[VECTOR][STATES]) {
    for (int k = 0; k < STATES; ++k)
        for (int m = 1; m < PASSES; ++m) {
            Pack<real> entry;
            for (int j = 0; j < VECTOR; ++j) entry.value[j] = g[m][j][k];
            store(matrix, k * STATES + m - 1, columns, column, entry);
        }
}

extern "C" __global__ void backward(
    const data *__restrict__ x, const data *__restrict__ g_out, const real *__restrict__ g_state,
    const real *__restrict__ g_watched, const real *__restrict__ start, const real *__restrict__ per_neuron,
    const long long *__restrict__ lengths, const saved *__restrict__ kept, data *__restrict__ g_x, real *__restrict__ g_start,
    real *__restrict__ g_learned, const long long all_steps, const long long neurons, const long long each, const Groups groups,
    const Scalars scalars, const long long cut, real *__restrict__ matrix) {
    const long long column = VECTOR * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    const long long columns = columns_of(all_steps, neurons, cut);
    if (column >= columns) return;
    const Part part = part_of(column, lengths, each, all_steps, neurons, cut);
    const long long i = part.i;

    real p[VECTOR][PARAMETERS], g[PASSES][VECTOR][STATES] = {}, g_p[VECTOR][AT_LEAST_1(LEARNED)] = {}, g_x_sum[VECTOR] = {};
    load_parameters(scalars, per_neuron, groups, i, p);
    Pack<data> x_always;
    if (CONSTANT && KEEP_INPUT) x_always = load(x, 0, neurons, i);
    if (g_state) load_rows<STATES>(g_state, 0, columns, column, g[0]);
    for (int m = 1; m < PASSES; ++m)
        for (int j = 0; j < VECTOR; ++j) g[m][j][m - 1] = real(1);

    const auto walk = [&](const int begin, const int length) {  // one chunk: `length` steps, CHUNK at most
        IN_CHUNK;
        if (KEEP_INPUT) {  // the forward pass again, for this chunk
            real z[VECTOR][STATES];
            if (begin > 0)
                load_rows<STATES>((const real *)kept, (begin / CHUNK - 1) * STATES, neurons, i, z);
            else
                load_start(start, scalars, neurons, i, z);
#pragma unroll UNROLLED
            for (int first = 0; first < CHUNK; first += AHEAD) {
                Pack<data> x_ahead[AHEAD];
#pragma unroll
                for (int a = 0; a < AHEAD; ++a)
                    if (first + a < length) x_ahead[a] = CONSTANT ? x_always : load(x, begin + first + a, neurons, i);
#pragma unroll
                for (int a = 0; a < AHEAD; ++a) {
                    if (first + a >= length) continue;
                    real q[VECTOR][AT_LEAST_1(NEEDS)];
#pragma unroll
                    for (int j = 0; j < VECTOR; ++j) {
                        const real x_t = real(x_ahead[a].value[j]);
                        real h[STATES], after[STATES];
                        charge(z[j], x_t, p[j], h);
                        const real u = fire(h, p[j]);
                        remember(z[j], x_t, h, u, p[j], q[j]);
                        reset(h, spike(u, p[j]), p[j], after);
                        for (int k = 0; k < STATES; ++k) z[j][k] = after[k];
                    }
                    put(in_chunk, first + a, q);
                }
            }
        }

#pragma unroll UNROLLED
        for (int first = CHUNK - AHEAD; first >= 0; first -= AHEAD) {
            Pack<data> g_ahead[AHEAD];
            real q[AHEAD][VECTOR][AT_LEAST_1(NEEDS)], g_w[AHEAD][VECTOR][AT_LEAST_1(WATCHED)];
            unsigned char bits[VECTOR][1];
#pragma unroll
            for (int a = AHEAD - 1; a >= 0; --a) {
                if (first + a >= length) continue;
                const int t = begin + first + a, place = (AHEAD % STEPS ? t : a) % STEPS;
                g_ahead[a] = load(g_out, t, neurons, i);
                if (TRACED) load_rows<WATCHED>(g_watched, t * (long long)WATCHED, neurons, i, g_w[a]);
                if (KEEP_POTENTIAL) load_rows<NEEDS>((const real *)kept, t * (long long)NEEDS, neurons, i, q[a]);
                if (KEEP_BITS) {
                    if (a == AHEAD - 1 || place == STEPS - 1 || first + a == length - 1)  // a byte holds STEPS steps
                        load_rows<1>((const unsigned char *)kept, t / STEPS, neurons, i, bits);
#pragma unroll
                    for (int j = 0; j < VECTOR; ++j)
                        for (int k = 0; k < NEEDS; ++k) q[a][j][k] = real(bits[j][0] >> (place * WIDTH + k) & 1);
                }
            }
#pragma unroll
            for (int a = AHEAD - 1; a >= 0; --a) {
                if (first + a >= length) continue;
                if (KEEP_INPUT) get(in_chunk, first + a, q[a]);
                Pack<data> g_x_t;
#pragma unroll
                for (int j = 0; j < VECTOR; ++j) {
                    real g_x_j, g_before[STATES], g_p_t[AT_LEAST_1(LEARNED)];
#pragma unroll
                    for (int m = PASSES - 1; m > 0; --m) {
                        const real none[AT_LEAST_1(WATCHED)] = {};
                        step_back(none, real(0), g[m][j], q[a][j], p[j], g_x_j, g_before, g_p_t);
                        for (int k = 0; k < STATES; ++k) g[m][j][k] = g_before[k];
                    }
                    step_back(g_w[a][j], real(g_ahead[a].value[j]), g[0][j], q[a][j], p[j], g_x_j, g_before, g_p_t);
                    g_x_t.value[j] = data(g_x_j);
                    if (CONSTANT) g_x_sum[j] += g_x_j;
                    for (int k = 0; k < STATES; ++k) g[0][j][k] = g_before[k];
                    for (int k = 0; k < LEARNED; ++k) g_p[j][k] += g_p_t[k];
                }
                if (!CONSTANT && !ENDS) store(g_x, begin + first + a, neurons, i, g_x_t);
            }
        }
    };
    int begin = part.begin + ((part.end - part.begin + CHUNK - 1) / CHUNK - 1) * CHUNK;
    if (begin >= part.begin && begin + CHUNK > part.end) {  // the last chunk of time may be shorter
        walk(begin, part.end - begin);
        begin -= CHUNK;
    }
    for (; begin >= part.begin; begin -= CHUNK) walk(begin, CHUNK);
    if (g_start) store_rows<STATES>(g_start, 0, columns, column, g[0]);
    if (ENDS) return store_matrix(matrix, columns, column, g);
    store_rows<LEARNED>(g_learned, 0, columns, column, g_p);
    if (CONSTANT) {
        Pack<data> summed;
        for (int j = 0; j < VECTOR; ++j) summed.value[j] = data(g_x_sum[j]);
        store(g_x, 0, columns, column, summed);
    } else if (LENGTHS) {
        store_zeros<1>(g_x, part.end, part.last, neurons, i);
    }
}
