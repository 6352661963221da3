// Fused forward pass: one launch runs all T time steps of a layer, VECTOR neurons in each thread (the twin of forward.py).
//
// The states z live in registers from the first step to the last; per step a thread reads VECTOR x and writes VECTOR spikes,
// up to 16 bytes in one access. The x of AHEAD steps are loaded before the first of them is used. Neighbouring threads take
// neighbouring neurons, so every row of time is read and written in one sweep. neuron.cuh is generated from the equations
// (tfexplore/codegen/cuda_source.py): real, data, STATES, ..., Scalars (the numbers that all neurons share), and charge, fire, spike,
// reset, output, remember, watch.
//
// Shapes: x, out [T, N] (CONSTANT: x is [1, N], the same at every step); start, state [STATES, N]; per_neuron [PER_NEURON, count]
// (pack.cuh); lengths [samples], the steps of each; watched [T, WATCHED, N]; kept [T, NEEDS, N] with
// KEEP_POTENTIAL, [chunks - 1, STATES, N] (the states at the start of every chunk but the first, which is `start`) with KEEP_INPUT,
// bytes [T / STEPS, N] (the outcomes of NEEDS comparisons of STEPS steps in each) with KEEP_BITS. What is absent is null: start
// where all neurons begin alike, state where it is not requested, lengths where all samples have T steps. With few steps these
// would be a good part of all bytes. With CHUNKED, start and state have a column for each pair of a chunk and a neuron; ENDS writes state
// alone.
// Words per element-step: x read, out written, plus NEEDS written for "potential", STATES / CHUNK for "input", WIDTH / 32
// for "bits".
//
// Versions (registers and instructions of an element-step: LIF, keep="input", float32, sm_90):
//   1  one thread per neuron, 4-byte accesses, the loop over time unrolled by 4: 32 registers
//   2  16-byte accesses, AHEAD = 4 steps in flight before the first use: 40 registers, 30 instructions
//   3  the division by tau in three operations (divide.cuh), AHEAD = 8, no test of T within a batch: 60 and 18
//   4  nothing is moved for an end of time that is not requested: on an H200, T = 32, 0.90 -> 0.94 of a copy's pace in float32,
//      0.80 -> 0.85 in bfloat16
//   5  parameters that groups of neurons share, lengths, a constant x, traces: not measured on a GPU so far
//   6  CHUNKED, ENDS: chunks of time side by side (this one; part.cuh has what they cost); without them the code of version 5
// Tried on an H200 and left out: as the x of a step is used, that of AHEAD steps later is loaded: 89 registers, as fast in
// float32, 0.52 instead of 0.86 in bfloat16. Blocks of 64 or 256 threads: within 2 %. Evict-first loads and stores: 2 to 4 % slower.
// With few neurons (N = 10,000) one in a thread takes half as long as four.
//
// Builds of LIF, as compiled (tools/candidates.py writes this table); the first of each dtype and keep is the default.
// regs: registers of a thread; instr: instructions issued for an element-step; KB: bytes in flight of a multiprocessor;
// share: predicted, of the pace of a copy of the least bytes; found: measured, where it was (T = 32, N = 4,194,304;
// benchmarks/results, `python -m benchmarks.gpu`).
//
// x        keep      vector ahead chunk held in   | sm_80 (A100)            | sm_90 (H200)                   | sm_100 (B200)
//                                               | regs  instr   KB  share | regs  instr   KB  share  found | regs  instr   KB  share
// float32  nothing     4     8                  |   62   18.3  128   1.00 |   62   18.3  128   1.00   0.94 |   58   18.4  128   0.99
// float32  nothing     4     4                  |   48   18.1   80   1.00 |   48   18.1   80   1.00        |   42   18.6   80   0.99
// float32  nothing     2     8                  |   40   20.5   96   1.00 |   40   20.4   96   1.00   0.95 |   40   19.6   96   0.99
// bfloat16 nothing     4     8                  |   42   19.9   80   0.99 |   62   20.3   64   0.96   0.92 |   56   20.3   72   0.85
// bfloat16 nothing     4     4                  |   38   20.1   48   0.99 |   48   20.6   40   0.95   0.91 |   40   20.6   48   0.84
// bfloat16 nothing     2     8                  |   34   21.7   48   0.98 |   42   22.2   40   0.94   0.88 |   40   21.6   48   0.82
// float32  input       4     8    16            |   62   18.5  128   0.97 |   60   18.5  128   0.97   0.94 |   56   18.2  144   0.96
// float32  input       4     4    16            |   48   18.8   80   0.97 |   48   19.0   80   0.97   0.93 |   40   19.6   96   0.96
// float32  input       2     8    16            |   40   20.8   96   0.97 |   38   20.9   96   0.97   0.94 |   40   20.4   96   0.96
// bfloat16 input       4     8     8            |   42   20.4   80   0.88 |   60   21.0   64   0.86   0.86 |   58   20.2   64   0.79
// bfloat16 input       4     4     8            |   38   20.9   48   0.88 |   48   21.6   40   0.86   0.86 |   39   21.6   48   0.77
// bfloat16 input       2     8     8            |   32   22.1   64   0.88 |   40   23.4   48   0.85   0.83 |   40   22.3   48   0.76
// float32  potential   4     8                  |   64   18.9  128   1.00 |   66   18.7  112   1.00        |   60   18.6  128   1.00
// float32  potential   4     4                  |   54   18.8   72   1.00 |   52   18.8   72   1.00        |   43   19.1   80   1.00
// float32  potential   2     8                  |   44   21.2   80   1.00 |   42   21.3   80   1.00        |   44   21.1   80   1.00
// bfloat16 potential   4     8                  |   50   20.9   72   1.00 |   66   21.4   56   1.00        |   60   21.0   64   0.98
// bfloat16 potential   4     4                  |   44   21.0   40   1.00 |   51   21.3   36   1.00        |   40   21.4   48   0.98
// bfloat16 potential   2     8                  |   34   23.4   48   1.00 |   44   23.4   40   0.99        |   40   23.8   48   0.97
// float32  bits        4     8                  |   64   21.3  128   1.00 |   64   21.3  128   1.00   0.94 |   64   20.6  128   0.99
// float32  bits        4     4                  |   48   24.7   80   1.00 |   50   24.6   72   0.99   0.94 |   44   28.7   80   0.95
// float32  bits        2     8                  |   40   23.4   96   1.00 |   40   23.2   96   1.00   0.94 |   46   22.5   80   0.98
// bfloat16 bits        4     8                  |   56   22.9   72   0.98 |   66   23.2   56   0.94   0.91 |   60   22.8   64   0.81
// bfloat16 bits        4     4                  |   38   26.4   48   0.97 |   48   26.4   40   0.91   0.90 |   42   31.5   40   0.64
// bfloat16 bits        2     8                  |   34   25.0   48   0.98 |   42   25.4   40   0.92   0.87 |   43   24.5   40   0.77

#include "neuron.cuh"
#include "pack.cuh"
#include "part.cuh"

extern "C" __global__ void forward(
    const data *__restrict__ x, const real *__restrict__ start, const real *__restrict__ per_neuron,
    const long long *__restrict__ lengths, data *__restrict__ out, real *__restrict__ state, saved *__restrict__ kept,
    real *__restrict__ watched, const long long all_steps, const long long neurons, const long long each, const Groups groups,
    const Scalars scalars, const long long cut) {
    const long long column = VECTOR * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    const long long columns = columns_of(all_steps, neurons, cut);
    if (column >= columns) return;
    const Part part = part_of(column, lengths, each, all_steps, neurons, cut);
    const long long i = part.i;

    real p[VECTOR][PARAMETERS], z[VECTOR][STATES];
    load_parameters(scalars, per_neuron, groups, i, p);
    load_start(start, scalars, columns, column, z);
    unsigned bits[VECTOR] = {};
    Pack<data> x_always;
    if (CONSTANT) x_always = load(x, 0, neurons, i);

    const auto walk = [&](const int first, const int length) {  // `length` steps, AHEAD at most
        Pack<data> x_ahead[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; ++a)
            if (a < length) x_ahead[a] = CONSTANT ? x_always : load(x, first + a, neurons, i);
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
            if (a >= length) continue;
            const int t = first + a, place = (AHEAD % STEPS ? t : a) % STEPS;  // the latter is known to the compiler
            if (KEEP_INPUT && a % CHUNK == 0 && t % CHUNK == 0 && t > 0)
                store_rows<STATES>((real *)kept, (t / CHUNK - 1) * STATES, neurons, i, z);
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
                    if (place == 0) bits[j] = 0;
                    for (int k = 0; k < NEEDS; ++k) bits[j] |= unsigned(q[j][k] != real(0)) << (place * WIDTH + k);
                }
            }
            if (!ENDS) store(out, t, neurons, i, out_t);
            if (KEEP_POTENTIAL) store_rows<NEEDS>((real *)kept, t * (long long)NEEDS, neurons, i, q);
            if (KEEP_BITS && (place == STEPS - 1 || (a == length - 1 && t == part.end - 1))) {
                Pack<unsigned char> bytes;
                for (int j = 0; j < VECTOR; ++j) bytes.value[j] = bits[j];
                store((unsigned char *)kept, t / STEPS, neurons, i, bytes);
            }
            if (WATCHED) store_rows<WATCHED>(watched, t * (long long)WATCHED, neurons, i, w);
        }
    };
    int first = part.begin;
    for (; first + AHEAD <= part.end; first += AHEAD) walk(first, AHEAD);
    if (first < part.end) walk(first, part.end - first);
    if (state) store_rows<STATES>(state, 0, columns, column, z);
    if (LENGTHS && !ENDS) {  // a sample that has ended is silent
        store_zeros<1>(out, part.end, part.last, neurons, i);
        if (WATCHED) store_zeros<WATCHED>(watched, part.end, part.last, neurons, i);
    }
}
