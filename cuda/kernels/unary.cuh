#pragma once

// Functions of one element that are chosen at run time: the choice is made once for a pack of elements, which
// costs nothing beside its bytes, and saves a kernel for each.

#include "cuda/device/any.cuh"
#include "cuda/device/math.cuh"

namespace plait::cuda {

enum class UnaryFunction : std::uint8_t {
    exp,
    log,
    sqrt,
    rsqrt,
    reciprocal,
    square,
    absolute,
    tanh,
    sigmoid,
    relu,
    silu,
    gelu,
    affine
};

/// y = function(x) over flat tensors of n elements; `affine` is scale * x + shift. y may be x.
template <class T>
struct UnaryMap {
    static constexpr char const* name = "unary";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = NoShared;

    UnaryFunction function;
    float scale, shift;
    T const* x;
    T* y;
    std::int64_t n;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = aligned(x, y);
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            auto a = Pack<T>::load(x + i, n - i, wide);
            float v[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) v[j] = a[j];
            apply(v);
            Pack<T>(v).store(y + i, n - i, wide);
        }
    }

  private:
    template <class F>
    PLAIT_DEVICE static void each(float (&v)[lanes], F f) {
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) v[j] = f(v[j]);
    }

    PLAIT_DEVICE void apply(float (&v)[lanes]) const {
        switch (function) {
            case UnaryFunction::exp:
                return each(v, [](float a) { return expf(a); });
            case UnaryFunction::log:
                return each(v, [](float a) { return logf(a); });
            case UnaryFunction::sqrt:
                return each(v, [](float a) { return sqrtf(a); });
            case UnaryFunction::rsqrt:
                return each(v, [](float a) { return 1.0f / sqrtf(a); });
            case UnaryFunction::reciprocal:
                return each(v, [](float a) { return 1.0f / a; });
            case UnaryFunction::square:
                return each(v, [](float a) { return a * a; });
            case UnaryFunction::absolute:
                return each(v, [](float a) { return fabsf(a); });
            case UnaryFunction::tanh:
                return each(v, [](float a) { return tanhf(a); });
            case UnaryFunction::sigmoid:
                return each(v, [](float a) { return sigmoid(a); });
            case UnaryFunction::relu:
                return each(v, [](float a) { return greater(a, 0.0f); });
            case UnaryFunction::silu:
                return each(v, [](float a) { return silu(a); });
            case UnaryFunction::gelu:
                return each(v, [](float a) { return gelu(a); });
            case UnaryFunction::affine: {
                float by = scale, plus = shift;
                return each(v, [=](float a) { return by * a + plus; });
            }
        }
    }
};

/// dx = dy * function'(x) over flat tensors of n elements, for all but `affine`. dx may be x or dy.
template <class T>
struct UnaryGradientMap {
    static constexpr char const* name = "unary_gradient";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = NoShared;

    UnaryFunction function;
    T const *x, *dy;
    T* dx;
    std::int64_t n;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = aligned(x, dy, dx);
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            auto a = Pack<T>::load(x + i, n - i, wide), d = Pack<T>::load(dy + i, n - i, wide);
            float v[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) v[j] = a[j];
            apply(v);
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) v[j] = d[j] * v[j];
            Pack<T>(v).store(dx + i, n - i, wide);
        }
    }

  private:
    template <class F>
    PLAIT_DEVICE static void each(float (&v)[lanes], F f) {
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) v[j] = f(v[j]);
    }

    PLAIT_DEVICE void apply(float (&v)[lanes]) const {
        switch (function) {
            case UnaryFunction::exp:
                return each(v, [](float a) { return expf(a); });
            case UnaryFunction::log:
                return each(v, [](float a) { return 1.0f / a; });
            case UnaryFunction::sqrt:
                return each(v, [](float a) { return 0.5f / sqrtf(a); });
            case UnaryFunction::rsqrt:
                return each(v, [](float a) { return -0.5f / (a * sqrtf(a)); });
            case UnaryFunction::reciprocal:
                return each(v, [](float a) { return -1.0f / (a * a); });
            case UnaryFunction::square:
                return each(v, [](float a) { return a + a; });
            case UnaryFunction::absolute:
                return each(v, [](float a) { return a > 0.0f ? 1.0f : a < 0.0f ? -1.0f : 0.0f; });
            case UnaryFunction::tanh:
                return each(v, [](float a) {
                    float t = tanhf(a);
                    return 1.0f - t * t;
                });
            case UnaryFunction::sigmoid:
                return each(v, [](float a) {
                    float s = sigmoid(a);
                    return s * (1.0f - s);
                });
            case UnaryFunction::relu:
                return each(v, [](float a) { return a > 0.0f ? 1.0f : 0.0f; });
            case UnaryFunction::silu:
                return each(v, [](float a) { return silu_derivative(a); });
            case UnaryFunction::gelu:
                return each(v, [](float a) { return gelu_derivative(a); });
            case UnaryFunction::affine:
                return;
        }
    }
};

}  // namespace plait::cuda
