// VECTOR neighbouring neurons at once: a thread's piece of a row of neurons, moved in accesses of up to 16 bytes.
//
// VECTOR is given by who compiles: 16 bytes of x where the rows allow it (N a multiple of it, addresses aligned), else 1.
#pragma once

template <class T>
struct alignas(sizeof(T) * VECTOR < 16 ? sizeof(T) * VECTOR : 16) Pack {
    T value[VECTOR];
};

// a is [rows, neurons]; i, the first of the neurons, is a multiple of VECTOR
template <class T>
__device__ __forceinline__ Pack<T> load(const T *a, long long row, long long neurons, long long i) {
    return *reinterpret_cast<const Pack<T> *>(a + row * neurons + i);
}

template <class T>
__device__ __forceinline__ void store(T *a, long long row, long long neurons, long long i, const Pack<T> &pack) {
    *reinterpret_cast<Pack<T> *>(a + row * neurons + i) = pack;
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

#define AT_LEAST_1(n) ((n) > 0 ? (n) : 1)  // C++ has no empty arrays
