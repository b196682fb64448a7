#pragma once

// Scalar math for kernels, in f32. The formulas are those of cpu/simd_math.hpp, which are written over
// vectors of the C++ compiler that nvcc does not know; tests hold the two together. On a GPU exp and
// reciprocals are the hardware's approximations (about 2 units in the last place for arguments of the size
// that matter), as a polynomial for each element would cost a memory-bound kernel more time than its bytes.

#include "cuda/device/block.cuh"

#include <cmath>

namespace plait::cuda {

/// a * b + c, rounded once. Where it is not said, compilers must not do so: bits are promised.
PLAIT_BOTH float fused(float a, float b, float c) {
#ifdef __CUDA_ARCH__
    return __fmaf_rn(a, b, c);
#else
    return std::fma(a, b, c);
#endif
}

inline constexpr float log2_of_e = 1.4426950408889634f;

/// A result below 2^-126 may be 0: none of them matters, and to keep them takes more instructions.
PLAIT_BOTH float fast_exp2(float x) {
#ifdef __CUDA_ARCH__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return std::exp2(x);
#endif
}
PLAIT_BOTH float fast_exp(float x) {
#ifdef __CUDA_ARCH__
    return fast_exp2(x * log2_of_e);
#else
    return std::exp(x);
#endif
}
/// 1 / x for normal numbers.
PLAIT_BOTH float fast_reciprocal(float x) {
#ifdef __CUDA_ARCH__
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.0f / x;
#endif
}
/// 2^n for n in [-126, 127].
PLAIT_BOTH float power_of_two(int n) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(n + 127) << 23);
}

/// 1 / (1 + exp(-x)), without overflow or loss for large |x|.
PLAIT_BOTH float sigmoid(float x) {
    float e = fast_exp(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) * fast_reciprocal(1.0f + e);
}
PLAIT_BOTH float silu(float x) { return x * sigmoid(x); }
PLAIT_BOTH float silu_derivative(float x) {
    float s = sigmoid(x);
    return s * fused(x, 1.0f - s, 1.0f);
}
/// The tanh form: x / 2 * (1 + tanh(u)) = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 x^3).
PLAIT_BOTH float gelu(float x) {
    constexpr float a = 1.5957691216057308f, b = static_cast<float>(1.5957691216057308 * 0.044715);
    return x * sigmoid(x * fused(b * x, x, a));
}
PLAIT_BOTH float gelu_derivative(float x) {
    constexpr float a = 1.5957691216057308f, b = static_cast<float>(1.5957691216057308 * 0.044715);
    float z = x * x, s = sigmoid(x * fused(b, z, a));
    return fused(x * s * (1.0f - s), fused(3.0f * b, z, a), s);
}

/// x^n for n >= 0, by squaring: a relative error of some 2^-47 for n up to a million.
PLAIT_BOTH double power(double x, int n) {
    double y = 1;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return y;
}

struct CosSin {
    double cos, sin;
};
/// Of |x| < 2^31, to within 2^-50 of theirs: no call of a library, whose way for larger ones needs a stack.
PLAIT_BOTH CosSin cos_sin(double x) {
    // x = k pi / 2 + r, with pi / 2 in three pieces; the first step is exact.
    double k = ::rint(x * 0.63661977236758134);
    double r = ::fma(-k, 0x1.921fb54442d18p+0, x);
    r = ::fma(-k, 0x1.1a62633145c07p-54, r);
    r = ::fma(-k, -0x1.f1976b7ed8fbcp-110, r);
    double z = r * r, c = 0, s = 0;  // Taylor, |r| <= pi / 4
    constexpr double cosines[] = {1,
                                  -1.0 / 2,
                                  1.0 / 24,
                                  -1.0 / 720,
                                  1.0 / 40320,
                                  -1.0 / 3628800,
                                  1.0 / 479001600,
                                  -1.0 / 87178291200,
                                  1.0 / 20922789888000};
    constexpr double sines[] = {1,
                                -1.0 / 6,
                                1.0 / 120,
                                -1.0 / 5040,
                                1.0 / 362880,
                                -1.0 / 39916800,
                                1.0 / 6227020800,
                                -1.0 / 1307674368000,
                                1.0 / 355687428096000};
    PLAIT_UNROLL
    for (int i = 8; i >= 0; --i) {
        c = ::fma(c, z, cosines[i]);
        s = ::fma(s, z, sines[i]);
    }
    s *= r;
    auto quarter = static_cast<std::int64_t>(k) & 3;
    double a = quarter & 1 ? s : c, b = quarter & 1 ? c : s;
    return {quarter == 1 || quarter == 2 ? -a : a, quarter >= 2 ? -b : b};
}

/// Bits of |x|; they are ordered as magnitudes are, above them infinity and NaN, of which there is one.
PLAIT_BOTH std::uint32_t magnitude_bits(float x) {
    auto u = __builtin_bit_cast(std::uint32_t, x) & 0x7fffffffu;
    return u > 0x7f800000u ? 0x7fc00000u : u;
}
/// Whether m >= 0 can be a scale: it is neither 0 nor NaN nor infinite.
PLAIT_BOTH bool is_scale(float m) { return m > 0.0f && magnitude_bits(m) < 0x7f800000u; }
/// e with 2^(e - 1) <= m < 2^e, for m > 0.
PLAIT_BOTH int exponent_above(float m) {
    auto u = magnitude_bits(m);
    if (u >= 0x00800000u) return static_cast<int>(u >> 23) - 126;
    int e = -149;
    for (; u; u >>= 1) ++e;
    return e;
}

/// The two words of `Squares` (ops/gradient_norm.hpp) for each |g| < 2^e, in f64: v = g^2 * 2^(bits - 2 e) is
/// exact, and v + 2^52 + 2^51 has in its last bits v rounded to the nearest integer, ties to even. Integers
/// would take many more instructions, and a GPU for training has half as many f64 ones a clock as f32 ones.
class SquareWords {
  public:
    /// What `add` adds too much, whatever g is.
    static constexpr std::uint64_t surplus = 0x4338000000000000;

    PLAIT_BOTH SquareWords(int e, int bits) : scale_(power(bits - 2 * e)), unit_(power(bits)) {}

    PLAIT_BOTH void add(float g, std::uint64_t& hi, std::uint64_t& lo) const {
        double square = static_cast<double>(g) * static_cast<double>(g);
        double whole = ::fma(square, scale_, shift);
        double rest = ::fma(square, scale_, -(whole - shift));
        hi += __builtin_bit_cast(std::uint64_t, whole);
        lo += __builtin_bit_cast(std::uint64_t, ::fma(rest, unit_, shift));
    }

  private:
    static constexpr double shift = 0x1.8p52;
    /// 2^n, a normal number.
    PLAIT_BOTH static double power(int n) {
        return __builtin_bit_cast(double, static_cast<std::uint64_t>(n + 1023) << 52);
    }

    double scale_, unit_;
};

}  // namespace plait::cuda
