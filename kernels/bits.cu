// Values of a few bits each, packed into words and unpacked, along any axis: one read, one write (the CPU's twin is bits.py).
//
// A word has `per` values of its column; the first lies in the highest bits where `big`, else in the lowest, and where the column
// ends within a word the rest is 0. bits: of each value. *wrong becomes 1 where a value is no whole number from 0 to 2^bits - 1;
// with `nonzero`, any value but 0 is a 1, and only NaN is wrong.
//
// Shapes: x, out [outer, length, inner], words [outer, count, inner], count = ceil(length / per), total = all words.
// One thread per word. Neighbouring threads have neighbouring columns, so along time (inner = N) each access of a warp is one
// piece of memory; along the last axis (inner = 1) a thread has values that are neighbours, which its cache lines hold.
//
// Compile-time options: VALUE, REAL, WORD, HEADER (see below). Not measured on a GPU so far.
#if HEADER == 1
#include <cuda_fp16.h>
#elif HEADER == 2
#include <cuda_bf16.h>
#endif

typedef VALUE value;  // that of x and out
typedef REAL real;    // what it is compared as
typedef WORD word;

struct Layout {
    long long length, count, inner, total, per, bits, big, nonzero;

    // Where the first of a word's values lies, and how many it has.
    __device__ long long first(const long long w) const {
        return (w / inner / count * length + w / inner % count * per) * inner + w % inner;
    }
    __device__ int held(const long long w) const {
        const long long left = length - w / inner % count * per;
        return int(left < per ? left : per);
    }
    __device__ int shift(const int j) const { return int((big ? per - 1 - j : j) * bits); }
    __device__ unsigned most() const { return (1u << bits) - 1; }

    // The value as a whole number; another one than v where v is none from 0 to `most`.
    __device__ unsigned code(const real v) const {
        if (bits == 1) return v != 0;
        return v >= 0 && v <= real(most()) ? unsigned(v) : 0;
    }
};

extern "C" __global__ void pack(
    const value *__restrict__ x, word *__restrict__ words, unsigned char *__restrict__ wrong, const Layout at) {
    const long long w = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (w >= at.total) return;
    const value *const x_w = x + at.first(w);
    unsigned bits = 0;
    bool missed = false;
    for (int j = 0, held = at.held(w); j < held; ++j) {
        const real v = real(x_w[j * at.inner]);
        const unsigned code = at.code(v);
        missed |= at.nonzero ? v != v : real(code) != v;
        bits |= code << at.shift(j);
    }
    words[w] = word(bits);
    if (missed) *wrong = 1;
}

extern "C" __global__ void unpack(const word *__restrict__ words, value *__restrict__ out, const Layout at) {
    const long long w = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (w >= at.total) return;
    value *const out_w = out + at.first(w);
    const unsigned bits = words[w];
    for (int j = 0, held = at.held(w); j < held; ++j) out_w[j * at.inner] = value(real(bits >> at.shift(j) & at.most()));
}
