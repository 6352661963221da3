// Fused forward pass: one launch runs all T time steps of a layer, VECTOR neurons in each thread (the twin of forward.py).
//
// The states z live in registers from the first step to the last; per step a thread reads VECTOR x and writes VECTOR spikes,
// 16 bytes each. The x of AHEAD steps are asked for before the first of them is used. Neighbouring threads take neighbouring
// neurons, so every row of time is read and written in one sweep. neuron.cuh is generated from the equations
// (tfexplore/codegen.py): real, data, STATES, ..., Scalars (the numbers that all neurons share), and charge, fire, spike,
// reset, output, remember, watch.
//
// Shapes: x, out [T, N]; start, state [STATES, N]; rows [ROWS, N]; watched [T, WATCHED, N]; kept [T, NEEDS, N] with
// KEEP_POTENTIAL, [chunks, STATES, N] (the states at the start of every chunk) with KEEP_INPUT, bytes [T / STEPS, N] (the
// outcomes of NEEDS comparisons of STEPS steps in each) with KEEP_BITS.
// Words per element-step: x read, out written, plus NEEDS written for "potential", STATES / CHUNK for "input", WIDTH / 32
// for "bits".
//
// Versions (none measured on a GPU yet; registers as compiled for sm_90, LIF, float32):
//   1  one thread per neuron, 4-byte accesses, the loop over time unrolled by 4: 32 registers
//   2  16-byte accesses, AHEAD steps under way before the first use: 40 (this one; 64 with 8 neurons in half precision)

#include "neuron.cuh"
#include "pack.cuh"

#define AHEAD 4

extern "C" __global__ void forward(
    const data *__restrict__ x, const real *__restrict__ start, const real *__restrict__ rows,
    data *__restrict__ out, real *__restrict__ state, saved *__restrict__ kept, real *__restrict__ watched,
    const long long steps, const long long neurons, const Scalars scalars) {
    const long long i = VECTOR * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (i >= neurons) return;

    real p[VECTOR][SCALARS + ROWS + 1], z[VECTOR][STATES];
    load_rows<ROWS, SCALARS>(rows, 0, neurons, i, p);
    for (int j = 0; j < VECTOR; ++j)
        for (int k = 0; k < SCALARS; ++k) p[j][k] = scalars.value[k];
    load_rows<STATES>(start, 0, neurons, i, z);
    unsigned char bits[VECTOR][1] = {};

    for (long long first = 0; first < steps; first += AHEAD) {
        Pack<data> x_ahead[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; ++a)
            if (first + a < steps) x_ahead[a] = load(x, first + a, neurons, i);
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
            const long long t = first + a;
            if (t >= steps) break;
            if (KEEP_INPUT && t % CHUNK == 0) store_rows<STATES>((real *)kept, t / CHUNK * STATES, neurons, i, z);
            Pack<data> out_t;
            real q[VECTOR][AT_LEAST_1(NEEDS)], w[VECTOR][AT_LEAST_1(WATCHED)];
#pragma unroll
            for (int j = 0; j < VECTOR; ++j) {
                const real x_t = real(x_ahead[a].value[j]);
                real h[STATES], after[STATES];
                charge(z[j], x_t, p[j], h);
                const real u = fire(h, p[j]), s = spike(u, p[j]);
                reset(h, s, p[j], after);
                out_t.value[j] = data(output(after, s));
                remember(z[j], x_t, h, u, p[j], q[j]);
                watch(after, h, w[j]);
                for (int k = 0; k < STATES; ++k) z[j][k] = after[k];
                if (KEEP_BITS) {  // a byte holds the outcomes of STEPS steps, WIDTH bits each
                    if (t % STEPS == 0) bits[j][0] = 0;
                    for (int k = 0; k < NEEDS; ++k) bits[j][0] |= (q[j][k] != real(0)) << (t % STEPS * WIDTH + k);
                }
            }
            store(out, t, neurons, i, out_t);
            if (KEEP_POTENTIAL) store_rows<NEEDS>((real *)kept, t * NEEDS, neurons, i, q);
            if (KEEP_BITS && (t % STEPS == STEPS - 1 || t == steps - 1))
                store_rows<1>((unsigned char *)kept, t / STEPS, neurons, i, bits);
            if (WATCHED) store_rows<WATCHED>(watched, t * WATCHED, neurons, i, w);
        }
    }
    store_rows<STATES>(state, 0, neurons, i, z);
}
