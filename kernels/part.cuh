// Which part of time a thread has: all T steps of its neurons, or (CHUNKED) those of one chunk, which other threads' run beside.
//
// CHUNKED: time is cut into ceil(T / cut) chunks of `cut` steps, the last one shorter. The pairs (chunk c, neuron n), at c * N + n,
// take the neurons' place: what belongs to an end of time has a column for each pair, [STATES, pairs]. What belongs to time keeps its
// layout, so a thread walks its rows from c * cut on. A thread's VECTOR neurons are in one chunk: N is a multiple of VECTOR.
// ENDS (of a CHUNKED kernel): only what the end of the chunk depends on, phase 1 of three; nothing that belongs to time is written.
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
