#pragma once

#include "plait/cpu/simd.hpp"

// Functions of vectors. Those of floats are own code, good to about two units in the last place, with
// infinities, NaN and denormals as the C library has them; those of doubles are the C library's, lane by
// lane. Polynomials: Moshier, Cephes, 1989.
namespace plait::cpu::PLAIT_CPU_TARGET {

/// first * x^n + ... : the coefficients from the highest power down, by Horner's rule.
template <class... C>
PLAIT_SIMD Floats polynomial(Floats x, float first, C... rest) {
    Floats p = splat<Floats>(first);
    ((p = fma(p, x, splat<Floats>(rest))), ...);
    return p;
}

PLAIT_SIMD Floats exp(Floats x) {
    constexpr float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    x = select<Floats>(x > 100.0f, splat<Floats>(100.0f), x);
    x = select<Floats>(x < -150.0f, splat<Floats>(-150.0f), x);
    Floats t = fma(x, splat<Floats>(1.44269504088896341f), splat<Floats>(shift));
    Floats n = t - shift;
    Floats r = fma(n, splat<Floats>(-0.693359375f), x);
    r = fma(n, splat<Floats>(2.12194440e-4f), r);
    Floats p = polynomial(r, 1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                          1.6666665459e-1f, 5.0000001201e-1f);
    p = fma(p, r * r, r) + 1.0f;
    // In two steps, since 2^n itself may be no float where the result is (or is denormal).
    Ints whole = (Ints)t - 0x4b400000, half = whole >> 1;
    return p * (Floats)((half + 127) << 23) * (Floats)((whole - half + 127) << 23);
}

PLAIT_SIMD Floats log(Floats x) {
    auto tiny = x < std::numeric_limits<float>::min();
    Floats y = select<Floats>(tiny, x * 0x1p23f, x);
    constexpr std::uint32_t low = 0x3f3504f3;  // sqrt(1/2)
    auto u = (Unsigned)y - low;
    Floats e = convert<Floats>((Ints)u >> 23) - select<Floats>(tiny, splat<Floats>(23.0f), Floats{});
    Floats f = (Floats)((u & 0x7fffffu) + low) - 1.0f;
    Floats p = polynomial(f, 7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f,
                          1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f,
                          3.3333331174e-1f);
    Floats z = f * f;
    Floats r = fma(e, splat<Floats>(-2.12194440e-4f), f * z * p) - 0.5f * z;
    r = fma(e, splat<Floats>(0.693359375f), f + r);
    constexpr float inf = std::numeric_limits<float>::infinity();
    r = select<Floats>(x == 0.0f, splat<Floats>(-inf), r);
    r = select<Floats>(x < 0.0f, splat<Floats>(std::numeric_limits<float>::quiet_NaN()), r);
    return select<Floats>((x == inf) | (x != x), x, r);
}

PLAIT_SIMD Floats absolute(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }
PLAIT_SIMD Doubles absolute(Doubles x) { return (Doubles)((Longs)x & 0x7fffffffffffffff); }

PLAIT_SIMD Floats tanh(Floats x) {
    Floats a = absolute(x), z = x * x;
    Floats far = 1.0f - 2.0f / (exp(a + a) + 1.0f);
    far = (Floats)((Ints)far | ((Ints)x & std::numeric_limits<std::int32_t>::min()));
    Floats p = polynomial(z, -5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f,
                          -3.33332819422e-1f);
    return select<Floats>(a < 0.625f, fma(p * z, x, x), far);
}

PLAIT_SIMD Doubles exp(Doubles x) {
    return each_lane(x, [=](double s) { return __builtin_exp(s); });
}
PLAIT_SIMD Doubles log(Doubles x) {
    return each_lane(x, [=](double s) { return __builtin_log(s); });
}
PLAIT_SIMD Doubles tanh(Doubles x) {
    return each_lane(x, [=](double s) { return __builtin_tanh(s); });
}

/// 1 / (1 + exp(-x)), without overflow or loss for large |x|.
template <class V>
PLAIT_SIMD V sigmoid(V x) {
    using S = ElementOf<V>;
    V e = exp(-absolute(x));
    return select<V>(x >= S(0), splat<V>(1), e) / (S(1) + e);
}
template <class V>
PLAIT_SIMD V silu(V x) {
    return x * sigmoid(x);
}
template <class V>
PLAIT_SIMD V silu_derivative(V x) {
    V s = sigmoid(x);
    return s * (ElementOf<V>(1) + x * (ElementOf<V>(1) - s));
}
/// The tanh form: x / 2 * (1 + tanh(u)) = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 x^3).
template <class V>
PLAIT_SIMD V gelu(V x) {
    using S = ElementOf<V>;
    constexpr S a = S(1.5957691216057308), b = S(1.5957691216057308 * 0.044715);
    return x * sigmoid(x * (a + b * x * x));
}
template <class V>
PLAIT_SIMD V gelu_derivative(V x) {
    using S = ElementOf<V>;
    constexpr S a = S(1.5957691216057308), b = S(1.5957691216057308 * 0.044715);
    V z = x * x, s = sigmoid(x * (a + b * z));
    return s + x * s * (S(1) - s) * (a + S(3) * b * z);
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
