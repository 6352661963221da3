// Fused way back: one launch runs the adjoint of all T time steps, VECTOR neurons in each thread (the twin of backward.py).
//
// Time is walked backwards in chunks of CHUNK steps. What the adjoint needs of each step (q: for LIF the charged
// potential) is read back (KEEP_POTENTIAL; as bits: KEEP_BITS), or recomputed for the chunk from the states at its start
// and x (KEEP_INPUT). The loops over a chunk are unrolled, so q stays in registers: a T of any length takes the same number
// of them. x and g_out of AHEAD steps are asked for before the first of them is used.
//
// Shapes: x (read only with KEEP_INPUT), g_out, g_x [T, N]; g_state, g_start [STATES, N]; rows, g_rows [ROWS, N]; kept
// as in forward.cu. A learned parameter's gradient is summed over time in a register; torch adds up the neurons of a row.
// Words per element-step: g_out read, g_x written, plus NEEDS read for "potential", 1 + STATES / CHUNK for "input",
// WIDTH / 32 for "bits".
//
// Versions (none measured on a GPU yet; registers as compiled for sm_90, LIF, float32):
//   1  one thread per neuron, 4-byte accesses, chunks of 32 steps: 48 registers
//   2  16-byte accesses, AHEAD steps under way before the first use, chunks of 32: 251, and learned parameters spill
//   3  chunks of 16 steps (8 in half precision): 151 (this one; 128 with KEEP_POTENTIAL, 40 with KEEP_BITS), no spill
// A step's division by tau stays a division: its exact twin, a product and two corrections by fused multiply-adds, differs
// for infinite and denormal potentials. Whether it would pay in half precision is not measured.

#include "neuron.cuh"
#include "pack.cuh"

#define AHEAD 4

extern "C" __global__ void backward(
    const data *__restrict__ x, const data *__restrict__ g_out, const real *__restrict__ g_state,
    const real *__restrict__ rows, const saved *__restrict__ kept, data *__restrict__ g_x, real *__restrict__ g_start,
    real *__restrict__ g_rows, const long long steps, const long long neurons, const Scalars scalars) {
    const long long i = VECTOR * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (i >= neurons) return;

    real p[VECTOR][SCALARS + ROWS + 1], g[VECTOR][STATES], g_p[VECTOR][AT_LEAST_1(ROWS)] = {};
    load_rows<ROWS, SCALARS>(rows, 0, neurons, i, p);
    for (int j = 0; j < VECTOR; ++j)
        for (int k = 0; k < SCALARS; ++k) p[j][k] = scalars.value[k];
    load_rows<STATES>(g_state, 0, neurons, i, g);

    for (long long chunk = (steps + CHUNK - 1) / CHUNK - 1; chunk >= 0; --chunk) {
        const long long begin = chunk * CHUNK;
        const int length = int(steps - begin < CHUNK ? steps - begin : CHUNK);
        real q[CHUNK][VECTOR][AT_LEAST_1(NEEDS)];

        if (KEEP_INPUT && NEEDS) {  // the way there once more, for this chunk
            real z[VECTOR][STATES];
            load_rows<STATES>((const real *)kept, chunk * STATES, neurons, i, z);
#pragma unroll
            for (int first = 0; first < CHUNK; first += AHEAD) {
                Pack<data> x_ahead[AHEAD];
#pragma unroll
                for (int a = 0; a < AHEAD; ++a)
                    if (first + a < length) x_ahead[a] = load(x, begin + first + a, neurons, i);
#pragma unroll
                for (int a = 0; a < AHEAD; ++a) {
                    if (first + a >= length) continue;
#pragma unroll
                    for (int j = 0; j < VECTOR; ++j) {
                        const real x_t = real(x_ahead[a].value[j]);
                        real h[STATES], after[STATES];
                        charge(z[j], x_t, p[j], h);
                        const real u = fire(h, p[j]);
                        remember(z[j], x_t, h, u, p[j], q[first + a][j]);
                        reset(h, spike(u, p[j]), p[j], after);
                        for (int k = 0; k < STATES; ++k) z[j][k] = after[k];
                    }
                }
            }
        }
        if (KEEP_POTENTIAL) {
#pragma unroll
            for (int c = 0; c < CHUNK; ++c)
                if (c < length) load_rows<NEEDS>((const real *)kept, (begin + c) * NEEDS, neurons, i, q[c]);
        }
        if (KEEP_BITS) {  // CHUNK is a multiple of STEPS
            unsigned char bits[VECTOR][1] = {};
#pragma unroll
            for (int c = 0; c < CHUNK; ++c) {
                if (c % STEPS == 0 && c < length)
                    load_rows<1>((const unsigned char *)kept, (begin + c) / STEPS, neurons, i, bits);
#pragma unroll
                for (int j = 0; j < VECTOR; ++j)
                    for (int k = 0; k < NEEDS; ++k) q[c][j][k] = real(bits[j][0] >> (c % STEPS * WIDTH + k) & 1);
            }
        }

#pragma unroll
        for (int last = CHUNK - 1; last >= 0; last -= AHEAD) {
            Pack<data> g_ahead[AHEAD];
#pragma unroll
            for (int a = 0; a < AHEAD; ++a)
                if (last - a >= 0 && last - a < length) g_ahead[a] = load(g_out, begin + last - a, neurons, i);
#pragma unroll
            for (int a = 0; a < AHEAD; ++a) {
                const int c = last - a;
                if (c < 0 || c >= length) continue;
                Pack<data> g_x_t;
#pragma unroll
                for (int j = 0; j < VECTOR; ++j) {
                    real g_x_j, g_before[STATES], g_p_t[AT_LEAST_1(ROWS)];
                    adjoint(real(g_ahead[a].value[j]), g[j], q[c][j], p[j], g_x_j, g_before, g_p_t);
                    g_x_t.value[j] = data(g_x_j);
                    for (int k = 0; k < STATES; ++k) g[j][k] = g_before[k];
                    for (int k = 0; k < ROWS; ++k) g_p[j][k] += g_p_t[k];
                }
                store(g_x, begin + c, neurons, i, g_x_t);
            }
        }
    }
    store_rows<STATES>(g_start, 0, neurons, i, g);
    store_rows<ROWS>(g_rows, 0, neurons, i, g_p);
}
