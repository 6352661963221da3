// Which part of time a thread has: all T steps of its neurons, or (CHUNKED) those of one chunk, beside which the others run.
//
// CHUNKED: time is cut into C = ceil(T / cut) chunks of `cut` = L steps, the last one shorter. The pairs (chunk c, neuron n), at c N + n,
// take the neurons' place: what belongs to an end of time has a column for each pair, [STATES, C N]. What belongs to time keeps its
// layout, so a thread walks its rows from c L on. A thread's VECTOR neurons are in one chunk: N is a multiple of VECTOR.
// ENDS (of a CHUNKED kernel): only what the end of a chunk depends on; nothing that belongs to time is written.
//
// A scan over time in three phases: 1 ENDS from zero, 2 combine.cu, 3 the chunks from their true starts. Words per element-step and
// launches (S states; backward with keep="potential", Q = NEEDS), beside one pass with decoupled look-back (Merrill and Garland, 2016),
// where a block keeps its chunk on the chip, publishes its end, waits for its left neighbours' and walks the chunk again:
//
//                 serial      three phases                    look-back
//   forward       2,     1    3 + 4 S / L,             3      2 + 4 S / L,              1
//   backward      2 + Q, 1    3 + 2 Q + (4 S + 2 S S) / L, 3      2 + Q + (4 S + 2 S S) / L, 1
//
// Three phases are built. The words that look-back saves are read a second time from a cache where x fits (50 MB on an H200), and where
// it does not, there are neurons enough for the serial kernel. It needs L words of a thread in shared memory (L < 450 with 128 threads
// on a multiprocessor of an H200, and then no other block), blocks that wait for one another, and tests on a GPU.
//
// Predicted for an H200, not measured so far (800 ns for a load, 16 of them in flight in a thread, 4.3 TB/s): with few neurons the serial
// kernel takes 50 ns a step, whatever N is; from N = 27,000 on it keeps the memory busy. Three phases take about 2 L x 50 ns, C x 50 ns
// between them and 10 us for launches, or their words. So forward they win below N = 18,000 and backward below 11,000, from T = 1,000 on:
// at T = 65,536 and N = 1, C = 256 = L, some 50 us beside 3.3 ms.
//
// N < 32: neighbouring lanes of a warp are in other chunks, L N words apart: an access touches 32 lines instead of one or a few, which takes
// about 32 cycles instead of 1 to 4: 64 in a step of the forward pass beside 24 instructions. A sector holds the next 8 steps in
// float32, and they are read while it is in the L1 cache, so the DRAM moves no more than otherwise; stores are merged in the L2 cache. There
// C N pairs are few warps: with blocks of one warp (backends/cuda.py) each multiprocessor has one or two, which then wait for
// the memory more than for this. (Unmeasured as well.)
#pragma once

struct Part {
    long long i;           // its neurons begin here
    int begin, end, last;  // its steps: begin <= t < end; a sample's end may be before that of its rows, `last`
};

// How many columns there are for an end of time: a neuron's, or a pair's.
__device__ __forceinline__ long long columns_of(long long steps, long long neurons, long long cut) {
    return CHUNKED ? (steps + cut - 1) / cut * neurons : neurons;
}

// The part of the thread whose columns begin at `column`.
__device__ __forceinline__ Part part_of(
    long long column, const long long *lengths, long long each, long long steps, long long neurons, long long cut) {
    if (!CHUNKED) return {column, 0, steps_of(lengths, each, column, steps), int(steps)};
    const long long i = column % neurons;
    const int begin = int(column / neurons * cut), last = int(begin + cut < steps ? begin + cut : steps);
    const int end = steps_of(lengths, each, i, steps);
    return {i, begin, end < begin ? begin : end < last ? end : last, last};
}
