// CUDA C++ compiled by a plain C++ compiler: what a kernel sees of a GPU, and a launch that loops over blocks and threads.
//
// A test tool, not a backend. The threads run one after the other, so a kernel whose threads wait for one another
// (__syncthreads, warp shuffles) cannot run here; shared memory in which each has words of its own can.
#pragma once

#include <math.h>  // with the overloads for float and double that CUDA has as well
#include <stddef.h>

#include <utility>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __forceinline__ __inline__ __attribute__((always_inline))
#ifndef __noinline__
#define __noinline__ __attribute__((noinline, unused))
#endif

inline float __fdividef(float x, float y) { return x / y; }

// Hints to caches. CUDA's headers for half precision bring these two types along; elsewhere they are not there.
#if STREAMING
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
template <class T> T __ldcs(const T *place) { return *place; }
template <class T> void __stcs(T *place, const T &value) { *place = value; }
#endif

static thread_local struct { unsigned x; } blockIdx, threadIdx, blockDim, gridDim;

template <class... A, size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}

// Like cuLaunchKernel: arguments[i] points at the i-th argument. False, and nothing runs, if their sizes are not those
// of the kernel's parameters (cuLaunchKernel cannot notice that).
template <class... A>
bool launch(void (*kernel)(A...), unsigned grid, unsigned block, size_t count, const size_t *sizes, void **arguments) {
    const size_t wanted[] = {sizeof(A)...};
    if (count != sizeof...(A)) return false;
    for (size_t i = 0; i < count; ++i)
        if (sizes[i] != wanted[i]) return false;
    gridDim.x = grid;
    blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x)
            call(kernel, arguments, std::index_sequence_for<A...>());
    return true;
}

#define RUN(kernel)                                                                                              \
    extern "C" bool run(unsigned grid, unsigned block, size_t count, const size_t *sizes, void **arguments) {    \
        return launch(kernel, grid, block, count, sizes, arguments);                                             \
    }
