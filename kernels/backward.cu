// Fused way back: one launch runs the adjoint of all T time steps, one thread per neuron (the twin of backward.py).
//
// Time is walked backwards in chunks of CHUNK steps. What the adjoint needs of each step (q: for LIF the charged
// potential) is read back (KEEP_POTENTIAL), or recomputed for the chunk from the states at its start and x (KEEP_INPUT).
// The loops over a chunk are unrolled, so q stays in registers: a T of any length takes the same number of them.
//
// Shapes: x (read only with KEEP_INPUT), g_out, g_x [T, N]; g_state, g_start [STATES, N]; rows, g_rows [ROWS, N]; kept
// as in forward.cu.
// Words per element-step: g_out read, g_x written, plus NEEDS read for "potential", 1 + STATES / CHUNK for "input".
//
// Versions: 1 one thread per neuron, scalar accesses (this one; not yet measured on a GPU).

#include "neuron.cuh"

#define AT_LEAST_1(n) ((n) > 0 ? (n) : 1)  // C++ has no empty arrays

extern "C" __global__ void backward(
    const data *__restrict__ x, const data *__restrict__ g_out, const real *__restrict__ g_state,
    const real *__restrict__ rows, const real *__restrict__ kept, data *__restrict__ g_x, real *__restrict__ g_start,
    real *__restrict__ g_rows, const long long steps, const long long neurons, const Scalars scalars) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= neurons) return;

    real p[SCALARS + ROWS + 1];
    for (int k = 0; k < SCALARS; ++k) p[k] = scalars.value[k];
    for (int k = 0; k < ROWS; ++k) p[SCALARS + k] = rows[k * neurons + i];
    real g[STATES], g_p[AT_LEAST_1(ROWS)] = {};
    for (int k = 0; k < STATES; ++k) g[k] = g_state[k * neurons + i];

    for (long long chunk = (steps + CHUNK - 1) / CHUNK - 1; chunk >= 0; --chunk) {
        const long long begin = chunk * CHUNK;
        real q[CHUNK][AT_LEAST_1(NEEDS)];
        if (KEEP_INPUT && NEEDS) {  // the way there once more, for this chunk
            real z[STATES];
            for (int k = 0; k < STATES; ++k) z[k] = kept[(chunk * STATES + k) * neurons + i];
#pragma unroll
            for (int c = 0; c < CHUNK; ++c) {
                if (begin + c >= steps) continue;
                const real x_t = real(x[(begin + c) * neurons + i]);
                real h[STATES], after[STATES];
                charge(z, x_t, p, h);
                remember(z, x_t, h, q[c]);
                reset(h, spike(fire(h, p), p), p, after);
                for (int k = 0; k < STATES; ++k) z[k] = after[k];
            }
        }
        if (KEEP_POTENTIAL) {
#pragma unroll
            for (int c = 0; c < CHUNK; ++c)
                for (int k = 0; k < NEEDS; ++k)
                    if (begin + c < steps) q[c][k] = kept[((begin + c) * NEEDS + k) * neurons + i];
        }
#pragma unroll
        for (int c = CHUNK - 1; c >= 0; --c) {
            if (begin + c >= steps) continue;
            real g_x_t, g_before[STATES], g_p_t[AT_LEAST_1(ROWS)];
            adjoint(real(g_out[(begin + c) * neurons + i]), g, q[c], p, g_x_t, g_before, g_p_t);
            g_x[(begin + c) * neurons + i] = data(g_x_t);
            for (int k = 0; k < STATES; ++k) g[k] = g_before[k];
            for (int k = 0; k < ROWS; ++k) g_p[k] += g_p_t[k];
        }
    }
    for (int k = 0; k < STATES; ++k) g_start[k * neurons + i] = g[k];
    for (int k = 0; k < ROWS; ++k) g_rows[k * neurons + i] = g_p[k];
}
