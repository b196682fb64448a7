#pragma once

#include "plait/core/random.hpp"
#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/ops/elementwise.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// y = f(x) for vectors of the type that x's dtype is computed in.
template <class F>
void map_unary(KernelCall const& call, F f) {
    with_floating_type(call, call.in.data()[0], [&](auto zero) {
        using C = decltype(zero);
        map<C, 1, 1>(
            call, {input(call, 0)}, {output(call, 0)},
            call.in.data()[0].meta.elements(), [=](auto const& a, auto& b) __attribute__((always_inline)) {
                b[0] = f(a[0]);
            });
    });
}
/// dx = dy * f(x)
template <class F>
void map_gradient(KernelCall const& call, F f) {
    with_floating_type(call, call.in.data()[0], [&](auto zero) {
        using C = decltype(zero);
        map<C, 2, 1>(
            call, {input(call, 0), input(call, 1)}, {output(call, 0)},
            call.in.data()[0].meta.elements(), [=](auto const& a, auto& b) __attribute__((always_inline)) {
                b[0] = a[1] * f(a[0]);
            });
    });
}

#define PLAIT_VECTOR_FUNCTION(expression)        \
    [=](auto x) __attribute__((always_inline)) { \
        using V = decltype(x);                   \
        using S [[maybe_unused]] = ElementOf<V>; \
        return V(expression);                    \
    }

inline void unary(KernelCall const& call) {
    switch (call.attributes<Unary>().fn) {
        case UnaryFn::exp:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(exp(x)));
        case UnaryFn::log:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(log(x)));
        case UnaryFn::sqrt:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(sqrt(x)));
        case UnaryFn::rsqrt:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(S(1) / sqrt(x)));
        case UnaryFn::reciprocal:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(S(1) / x));
        case UnaryFn::square:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(x * x));
        case UnaryFn::absolute:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(absolute(x)));
        case UnaryFn::tanh:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(tanh(x)));
        case UnaryFn::sigmoid:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(sigmoid(x)));
        case UnaryFn::relu:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(max(x, V{})));
        case UnaryFn::silu:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(silu(x)));
        case UnaryFn::gelu:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(gelu(x)));
        case UnaryFn::is_finite:
            return map_unary(call, PLAIT_VECTOR_FUNCTION(select<V>(
                                       absolute(x) < std::numeric_limits<S>::infinity(), splat<V>(1), V{})));
    }
}

inline void unary_gradient(KernelCall const& call) {
    switch (call.attributes<UnaryGradient>().fn) {
        case UnaryFn::exp:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(exp(x)));
        case UnaryFn::log:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(S(1) / x));
        case UnaryFn::sqrt:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(S(0.5) / sqrt(x)));
        case UnaryFn::rsqrt:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(S(-0.5) / (x * sqrt(x))));
        case UnaryFn::reciprocal:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(S(-1) / (x * x)));
        case UnaryFn::square:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(x + x));
        case UnaryFn::absolute:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(select<V>(x > S(0), splat<V>(1), V{}) -
                                                            select<V>(x < S(0), splat<V>(1), V{})));
        case UnaryFn::tanh:
            return map_gradient(
                call, [=](auto x) __attribute__((always_inline)) {
                    auto y = tanh(x);
                    return decltype(y)(ElementOf<decltype(y)>(1) - y * y);
                });
        case UnaryFn::sigmoid:
            return map_gradient(
                call, [=](auto x) __attribute__((always_inline)) {
                    auto y = sigmoid(x);
                    return decltype(y)(y * (ElementOf<decltype(y)>(1) - y));
                });
        case UnaryFn::relu:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(select<V>(x > S(0), splat<V>(1), V{})));
        case UnaryFn::silu:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(silu_derivative(x)));
        case UnaryFn::gelu:
            return map_gradient(call, PLAIT_VECTOR_FUNCTION(gelu_derivative(x)));
        case UnaryFn::is_finite:
            return unsupported(call, call.in.data()[0].meta.dtype);
    }
}

inline void affine(KernelCall const& call) {
    auto const& op = call.attributes<Affine>();
    map_unary(call, PLAIT_VECTOR_FUNCTION(S(op.scale) * x + S(op.shift)));
}

#undef PLAIT_VECTOR_FUNCTION

inline void cast(KernelCall const& call) {
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    if (x.meta.dtype == y.meta.dtype) return copy_bytes(call, y.data, x.data, y.meta.bytes());
    auto copy = [&](auto zero) {
        map<decltype(zero), 1, 1>(
            call, {operand(x)}, {operand(y)},
            y.meta.elements(), [=](auto const& a, auto& b) __attribute__((always_inline)) { b[0] = a[0]; });
    };
    // A float holds neither every i32 nor every f64.
    bool floats = is_floating(x.meta.dtype) || is_floating(y.meta.dtype);
    bool wide = x.meta.dtype >= DType::f64 || y.meta.dtype >= DType::f64;
    if (floats && wide) copy(double{});
    else with_compute_type(x.meta.dtype, y.meta.dtype, copy);
}

inline void select(KernelCall const& call) {
    auto dtype = call.out.data()[0].meta.dtype;
    with_compute_type(dtype, dtype, [&](auto zero) {
        using C = decltype(zero);
        map<C, 3, 1>(
            call, {input(call, 0), input(call, 1), input(call, 2)}, {output(call, 0)},
            call.out.data()[0].meta.elements(), [=](auto const& a, auto& b) __attribute__((always_inline)) {
                b[0] = select<Vector<C>>(a[0] != C(0), a[1], a[2]);
            });
    });
}

inline void full(KernelCall const& call) {
    double value = call.attributes<Full>().value;
    Buffer const& y = call.out.data()[0];
    double block[block_elements];
    for (auto& b : block) b = value;
    run_tiles(call, pieces(y.meta.elements(), tile_elements), [&](std::int64_t t, int) {
        std::int64_t end = smaller(y.meta.elements(), (t + 1) * tile_elements);
        for (std::int64_t i = t * tile_elements; i < end; i += block_elements)
            write<double>(operand(y), i, block, smaller(block_elements, end - i));
    });
}

inline void iota(KernelCall const& call) {
    int dim = call.attributes<Iota>().dim;
    Buffer const& y = call.out.data()[0];
    Shape const& s = y.meta.shape;
    std::int64_t size = s.begin()[dim], inner = elements(s, dim + 1, s.rank());
    std::int64_t origin = y.block.origin.empty() ? 0 : y.block.origin.begin()[dim];
    run_tiles(call, pieces(y.meta.elements(), tile_elements), [&](std::int64_t t, int) {
        std::int64_t block[block_elements];
        std::int64_t end = smaller(y.meta.elements(), (t + 1) * tile_elements);
        for (std::int64_t i = t * tile_elements; i < end; i += block_elements) {
            std::int64_t n = smaller(block_elements, end - i);
            for (std::int64_t j = 0; j < n; ++j) block[j] = origin + (i + j) / inner % size;
            write<std::int64_t>(operand(y), i, block, n);
        }
    });
}

inline void swiglu(KernelCall const& call) {
    with_floating_type(call, call.in.data()[0], [&](auto zero) {
        map<decltype(zero), 2, 1>(
            call, {input(call, 0), input(call, 1)}, {output(call, 0)},
            call.out.data()[0].meta.elements(), [=](auto const& a, auto& b) __attribute__((always_inline)) {
                b[0] = silu(a[0]) * a[1];
            });
    });
}

inline void swiglu_gradient(KernelCall const& call) {
    with_floating_type(call, call.in.data()[0], [&](auto zero) {
        using C = decltype(zero);
        map<C, 3, 2>(
            call, {input(call, 0), input(call, 1), input(call, 2)}, {output(call, 0), output(call, 1)},
            call.out.data()[0].meta.elements(), [=](auto const& a, auto& b) __attribute__((always_inline)) {
                auto s = sigmoid(a[0]);
                b[0] = a[2] * a[1] * (s * (C(1) + a[0] * (C(1) - s)));
                b[1] = a[2] * (a[0] * s);
            });
    });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
