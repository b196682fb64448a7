#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

namespace plait::cuda {

// What `Map` does to one element: x, of `inputs` floats, to y, of `outputs`.

struct Copy {
    static constexpr char const* name = "cast";
    static constexpr int inputs = 1, outputs = 1;
    PLAIT_DEVICE static void apply(float const* x, float* y) { y[0] = x[0]; }
};
struct Gelu {
    static constexpr char const* name = "gelu";
    static constexpr int inputs = 1, outputs = 1;
    PLAIT_DEVICE static void apply(float const* x, float* y) { y[0] = gelu(x[0]); }
};
/// (x, dy) -> dx.
struct GeluGradient {
    static constexpr char const* name = "gelu_gradient";
    static constexpr int inputs = 2, outputs = 1;
    PLAIT_DEVICE static void apply(float const* x, float* y) { y[0] = x[1] * gelu_derivative(x[0]); }
};
/// (gate, up) -> silu(gate) * up.
struct SwiGlu {
    static constexpr char const* name = "swiglu";
    static constexpr int inputs = 2, outputs = 1;
    PLAIT_DEVICE static void apply(float const* x, float* y) { y[0] = silu(x[0]) * x[1]; }
};
/// (gate, up, dy) -> (dgate, dup).
struct SwiGluGradient {
    static constexpr char const* name = "swiglu_gradient";
    static constexpr int inputs = 3, outputs = 2;
    PLAIT_DEVICE static void apply(float const* x, float* y) {
        float s = sigmoid(x[0]), through = x[2] * x[1];
        y[0] = through * (s * (1.0f + x[0] * (1.0f - s)));
        y[1] = x[2] * (x[0] * s);
    }
};

/// y = F(x), element by element, over flat tensors of n elements: T in, U out. An output may be an input in
/// place.
template <class F, class T, class U = T>
struct Map {
    static constexpr char const* name = F::name;
    static constexpr int threads = 256;
    /// As many as make 16 bytes of the narrower type.
    static constexpr int lanes = 16 / smaller<int>(sizeof(T), sizeof(U));
    using Shared = NoShared;

    T const* x[F::inputs];
    U* y[F::outputs];
    std::int64_t n;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = true;
        PLAIT_UNROLL
        for (auto const* p : x) wide &= aligned(p);
        PLAIT_UNROLL
        for (auto const* p : y) wide &= aligned(p);
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            Pack<T, lanes> a[F::inputs];
            PLAIT_UNROLL
            for (int k = 0; k < F::inputs; ++k) a[k] = Pack<T, lanes>::load(x[k] + i, n - i, wide);
            float results[F::outputs][lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) {
                float in[F::inputs], out[F::outputs];
                PLAIT_UNROLL
                for (int k = 0; k < F::inputs; ++k) in[k] = a[k][j];
                F::apply(in, out);
                PLAIT_UNROLL
                for (int k = 0; k < F::outputs; ++k) results[k][j] = out[k];
            }
            PLAIT_UNROLL
            for (int k = 0; k < F::outputs; ++k) Pack<U, lanes>(results[k]).store(y[k] + i, n - i, wide);
        }
    }
};

}  // namespace plait::cuda
