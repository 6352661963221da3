// Fused forward pass: one launch runs all T time steps of a layer, one thread per neuron (the twin of forward.py).
//
// The state z lives in registers from the first step to the last; per step a thread reads one x and writes one spike.
// Neighbouring threads take neighbouring neurons, so every row of time is read and written in one sweep. neuron.cuh is
// generated from the equations (tfexplore/codegen.py): real, data, STATES, ..., Scalars (the numbers that all neurons
// share), and charge, fire, spike, reset, output, remember, watch.
//
// Shapes: x, out [T, N]; start, state [STATES, N]; rows [ROWS, N]; watched [T, WATCHED, N]; kept [T, NEEDS, N] with
// KEEP_POTENTIAL, [chunks, STATES, N] (the states at the start of every chunk) with KEEP_INPUT.
// Words per element-step: x read, out written, plus NEEDS written for "potential", STATES / CHUNK for "input".
//
// Versions: 1 one thread per neuron, scalar accesses (this one; not yet measured on a GPU).

#include "neuron.cuh"

#define AT_LEAST_1(n) ((n) > 0 ? (n) : 1)  // C++ has no empty arrays

extern "C" __global__ void forward(
    const data *__restrict__ x, const real *__restrict__ start, const real *__restrict__ rows,
    data *__restrict__ out, real *__restrict__ state, real *__restrict__ kept, real *__restrict__ watched,
    const long long steps, const long long neurons, const Scalars scalars) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= neurons) return;

    real p[SCALARS + ROWS + 1];
    for (int k = 0; k < SCALARS; ++k) p[k] = scalars.value[k];
    for (int k = 0; k < ROWS; ++k) p[SCALARS + k] = rows[k * neurons + i];
    real z[STATES];
    for (int k = 0; k < STATES; ++k) z[k] = start[k * neurons + i];

#pragma unroll 4  // several x are on their way before the first is used
    for (long long t = 0; t < steps; ++t) {
        if (KEEP_INPUT && t % CHUNK == 0)
            for (int k = 0; k < STATES; ++k) kept[(t / CHUNK * STATES + k) * neurons + i] = z[k];
        const real x_t = real(x[t * neurons + i]);
        real h[STATES], after[STATES];
        charge(z, x_t, p, h);
        const real s = spike(fire(h, p), p);
        reset(h, s, p, after);
        out[t * neurons + i] = data(output(after, s));
        if (KEEP_POTENTIAL) {
            real q[AT_LEAST_1(NEEDS)];
            remember(z, x_t, h, q);
            for (int k = 0; k < NEEDS; ++k) kept[(t * NEEDS + k) * neurons + i] = q[k];
        }
        if (WATCHED) {
            real w[AT_LEAST_1(WATCHED)];
            watch(after, h, w);
            for (int k = 0; k < WATCHED; ++k) watched[(t * WATCHED + k) * neurons + i] = w[k];
        }
        for (int k = 0; k < STATES; ++k) z[k] = after[k];
    }
    for (int k = 0; k < STATES; ++k) state[k * neurons + i] = z[k];
}
