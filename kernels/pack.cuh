// VECTOR neighbouring neurons at once: a thread's piece of a row of neurons, moved in accesses of up to 16 bytes.
//
// VECTOR is a compile-time option: up to 16 bytes of x where the rows allow it (N a multiple of it, addresses aligned), else 1. So are
// LENGTHS (samples have a number of steps each), CHUNKED and ENDS (part.cuh), and THREADS, AHEAD, CHUNK, SHARED and STREAMING, which change
// the speed and nothing of the results (tfexplore/codegen/builds.py).
#pragma once

#define AT_LEAST_1(n) ((n) > 0 ? (n) : 1)  // C++ has no empty arrays

template <class T>
struct alignas(sizeof(T) * VECTOR < 16 ? sizeof(T) * VECTOR : 16) Pack {
    T value[VECTOR];
};

#if STREAMING
// Evict-first loads and stores for what is read once and written once, as words of the pack's size.
template <int BYTES> struct Word;
template <> struct Word<1> { typedef unsigned char type; };
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<4> { typedef unsigned type; };
template <> struct Word<8> { typedef uint2 type; };
template <> struct Word<16> { typedef uint4 type; };
#endif

// a is [rows, neurons]; i, the first of the neurons, is a multiple of VECTOR
template <class T>
__device__ __forceinline__ Pack<T> load(const T *a, long long row, long long neurons, long long i) {
    const Pack<T> *place = reinterpret_cast<const Pack<T> *>(a + row * neurons + i);
#if STREAMING
    if constexpr (sizeof(Pack<T>) <= 16) {
        typedef typename Word<sizeof(Pack<T>)>::type word;
        const word got = __ldcs(reinterpret_cast<const word *>(place));
        return reinterpret_cast<const Pack<T> &>(got);
    }
#endif
    return *place;
}

template <class T>
__device__ __forceinline__ void store(T *a, long long row, long long neurons, long long i, const Pack<T> &pack) {
    Pack<T> *place = reinterpret_cast<Pack<T> *>(a + row * neurons + i);
#if STREAMING
    if constexpr (sizeof(Pack<T>) <= 16) {
        typedef typename Word<sizeof(Pack<T>)>::type word;
        __stcs(reinterpret_cast<word *>(place), reinterpret_cast<const word &>(pack));
        return;
    }
#endif
    *place = pack;
}

// the same for K rows: value[j][FIRST + k] of neuron j
template <int K, int FIRST = 0, int SIZE, class T>
__device__ __forceinline__ void load_rows(const T *a, long long row, long long neurons, long long i, T (*value)[SIZE]) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
        const Pack<T> pack = load(a, row + k, neurons, i);
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) value[j][FIRST + k] = pack.value[j];
    }
}

template <int K, int SIZE, class T>
__device__ __forceinline__ void store_rows(T *a, long long row, long long neurons, long long i, const T (*value)[SIZE]) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
        Pack<T> pack;
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) pack.value[j] = value[j][k];
        store(a, row + k, neurons, i, pack);
    }
}

// The number of steps of the neurons from i on, of one sample: sample b has the neurons from b * each on.
__device__ __forceinline__ int steps_of(const long long *lengths, long long each, long long i, long long steps) {
    return int(LENGTHS ? lengths[i / each] : steps);
}

// Zeros for K rows of each step from `first` on.
template <int K, class T>
__device__ __forceinline__ void store_zeros(T *a, int first, long long steps, long long neurons, long long i) {
    const Pack<T> zeros = {};
    for (long long row = (long long)first * K; row < steps * K; ++row) store(a, row, neurons, i, zeros);
}

// The states before the first step: each neuron's own, or (start is null) those that all begin with.
__device__ __forceinline__ void load_start(
    const real *start, const Scalars &scalars, long long neurons, long long i, real (*z)[STATES]) {
    if (start) return load_rows<STATES>(start, 0, neurons, i, z);
#pragma unroll
    for (int j = 0; j < VECTOR; ++j)
        for (int k = 0; k < STATES; ++k) z[j][k] = scalars.value[SCALARS + k];
}

// The parameters of VECTOR neurons: those that all share, their own, and the numbers that follow from them. Groups of neurons have
// their own: per_neuron is [PER_NEURON, count], and neuron i has column (i / inner) % count.
#define PARAMETERS AT_LEAST_1(SCALARS + PER_NEURON + DERIVED)

struct Groups {
    long long inner, count;
};

__device__ __forceinline__ void load_own(
    const real *per_neuron, const Groups groups, long long i, real (*p)[PARAMETERS]) {
    long long column = i / groups.inner % groups.count, within = i % groups.inner;
#pragma unroll
    for (int j = 0; j < VECTOR; ++j) {
        for (int k = 0; k < PER_NEURON; ++k) p[j][SCALARS + k] = per_neuron[k * groups.count + column];
        if (++within == groups.inner) {  // the next neuron is in the next group
            within = 0;
            if (++column == groups.count) column = 0;
        }
    }
}

__device__ __forceinline__ void load_parameters(
    const Scalars &scalars, const real *per_neuron, const Groups groups, long long i, real (*p)[PARAMETERS]) {
    if (PER_NEURON) load_own(per_neuron, groups, i, p);
    for (int k = 0; k < SCALARS; ++k) p[0][k] = scalars.value[k];
    derive(p[0]);
#pragma unroll
    for (int j = 1; j < VECTOR; ++j) {
        for (int k = 0; k < SCALARS; ++k) p[j][k] = p[0][k];
        for (int k = SCALARS + PER_NEURON; k < SCALARS + PER_NEURON + DERIVED; ++k) p[j][k] = p[0][k];
        if (PER_NEURON) derive(p[j]);
    }
}
