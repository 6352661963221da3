// What the adjoint needs of a chunk of CHUNK steps, NEEDS values of each of a thread's neurons: in registers, and then every loop
// over the chunk is unrolled, or (SHARED) in shared memory, where each thread has words of its own and none waits for another.
#pragma once

#if SHARED
// Rows of whole accesses, those of neighbouring threads side by side: no two of a warp meet in a bank.
#define ACCESS (VECTOR * sizeof(real) < 16 ? VECTOR : 16 / sizeof(real))
struct alignas(ACCESS * sizeof(real)) Access {
    real value[ACCESS];
};
typedef Access InChunk[AT_LEAST_1(NEEDS) * VECTOR / ACCESS][THREADS];
#define IN_CHUNK __shared__ InChunk in_chunk[CHUNK]
#define UNROLLED 1
#else
typedef real InChunk[VECTOR][AT_LEAST_1(NEEDS)];
#define IN_CHUNK InChunk in_chunk[CHUNK]
#define UNROLLED (CHUNK / AHEAD)
#endif

__device__ __forceinline__ void put(InChunk *chunk, int step, const real (*q)[AT_LEAST_1(NEEDS)]) {
#pragma unroll
    for (int k = 0; k < NEEDS; ++k)
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) {
#if SHARED
            chunk[step][(k * VECTOR + j) / ACCESS][threadIdx.x].value[j % ACCESS] = q[j][k];
#else
            chunk[step][j][k] = q[j][k];
#endif
        }
}

__device__ __forceinline__ void get(const InChunk *chunk, int step, real (*q)[AT_LEAST_1(NEEDS)]) {
#pragma unroll
    for (int k = 0; k < NEEDS; ++k)
#pragma unroll
        for (int j = 0; j < VECTOR; ++j) {
#if SHARED
            q[j][k] = chunk[step][(k * VECTOR + j) / ACCESS][threadIdx.x].value[j % ACCESS];
#else
            q[j][k] = chunk[step][j][k];
#endif
        }
}
