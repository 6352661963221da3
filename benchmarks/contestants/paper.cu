// The design of the temporal-fusion paper (Li et al., ICANN 2024), for the benchmarks' equation: one thread for each neuron,
// scalar float32 accesses, all time steps in one launch; the forward pass writes the spikes and the potentials, the backward
// pass reads them. LIF, tau = 2, threshold 1, soft detached reset.
//
// Words per element-step: forward reads x, writes s and h; backward reads g and h, writes g_x. Six.

extern "C" __global__ void forward(
    const float *__restrict__ x, float *__restrict__ s, float *__restrict__ h, const long long steps, const long long neurons) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= neurons) return;
    float v = 0.0f;
    for (long long k = i; k < steps * neurons; k += neurons) {
        v = v - v / 2.0f + x[k];
        h[k] = v;
        const float spike = v - 1.0f >= 0.0f ? 1.0f : 0.0f;
        s[k] = spike;
        v -= spike;
    }
}

extern "C" __global__ void backward(
    const float *__restrict__ g, const float *__restrict__ h, float *__restrict__ g_x, const int atan, const long long steps,
    const long long neurons) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= neurons) return;
    float carried = 0.0f;
    for (long long k = (steps - 1) * neurons + i; k >= 0; k -= neurons) {
        const float u = h[k] - 1.0f, w = 3.14159265f * u;
        const float slope = atan ? 1.0f / (1.0f + w * w) : (fabsf(u) <= 0.5f ? 1.0f : 0.0f);
        const float gh = g[k] * slope + carried;
        g_x[k] = gh;
        carried = gh - gh / 2.0f;
    }
}
