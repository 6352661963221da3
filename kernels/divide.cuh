// Division by a number that is known before the loop over time: three operations instead of a dozen.
//
// With r = 1 / y, rounded, and x, y, r and the quotient well within the range of normal numbers, this gives x / y, correctly
// rounded (Brisebarre, Muller, Raina, "Accelerating correctly rounded floating-point division when the divisor is known in
// advance", IEEE Transactions on Computers 53, 2004):
//
//     q = x r        e = q y - x  (exact)        x / y = q - e r
//
// The written order keeps the sign of a zero. Outside of that range, for infinities and NaN, `divide` divides.
// Gradients may differ in their last digits: there `ratio` is a product with an approximate reciprocal.
#pragma once

// The range: y within 2^-16 ... 2^16, quotients from 2^-62 (float) on; then e, a multiple of 2^-48 x, is no denormal.
__device__ __forceinline__ float reciprocal(float y) { return y >= 0x1p-16f && y <= 0x1p16f ? 1.0f / y : nanf(""); }
__device__ __forceinline__ double reciprocal(double y) { return y >= 0x1p-16 && y <= 0x1p16 ? 1.0 / y : nan(""); }

// Not inlined: one copy of the long division, beside the loop.
static __device__ __noinline__ float quotient(float x, float y) { return x / y; }
static __device__ __noinline__ double quotient(double x, double y) { return x / y; }

// x / y, to the bit; r = reciprocal(y)
__device__ __forceinline__ float divide(float x, float y, float r) {
    const float q = x * r, e = fmaf(q, y, -x), exact = fmaf(-e, r, q);
    return fabsf(exact) >= 0x1p-62f || x == r * 0.0f ? exact : quotient(x, y);  // r * 0: a NaN equals nothing
}

__device__ __forceinline__ double divide(double x, double y, double r) {
    const double q = x * r, e = fma(q, y, -x), exact = fma(-e, r, q);
    return fabs(exact) >= 0x1p-900 || x == r * 0.0 ? exact : quotient(x, y);
}

// about x / y: within two units in the last place, 0 where y is beyond 8.5e37
__device__ __forceinline__ float ratio(float x, float y) { return __fdividef(x, y); }
__device__ __forceinline__ double ratio(double x, double y) { return x / y; }
