#pragma once

// Scalar math for kernels, in f32. The formulas are those of cpu/simd_math.hpp, which are written over
// vectors of the C++ compiler that nvcc does not know; tests hold the two together. On a GPU exp and
// reciprocals are the hardware's approximations (about 2 units in the last place for arguments of the size
// that matter), as a polynomial for each element would cost a memory-bound kernel more time than its bytes.

#include "cuda/device/block.cuh"

#include <cmath>

namespace plait::cuda {

PLAIT_BOTH float fast_exp(float x) {
#ifdef __CUDA_ARCH__
    return __expf(x);
#else
    return std::exp(x);
#endif
}
PLAIT_BOTH float fast_divide(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fdividef(a, b);
#else
    return a / b;
#endif
}
/// 2^n for n in [-126, 127].
PLAIT_BOTH float power_of_two(int n) {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(n + 127) << 23);
}

/// 1 / (1 + exp(-x)), without overflow or loss for large |x|.
PLAIT_BOTH float sigmoid(float x) {
    float e = fast_exp(-fabsf(x));
    return fast_divide(x >= 0.0f ? 1.0f : e, 1.0f + e);
}
PLAIT_BOTH float silu(float x) { return x * sigmoid(x); }
PLAIT_BOTH float silu_derivative(float x) {
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}
/// The tanh form: x / 2 * (1 + tanh(u)) = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 x^3).
PLAIT_BOTH float gelu(float x) {
    constexpr float a = 1.5957691216057308f, b = static_cast<float>(1.5957691216057308 * 0.044715);
    return x * sigmoid(x * (a + b * x * x));
}
PLAIT_BOTH float gelu_derivative(float x) {
    constexpr float a = 1.5957691216057308f, b = static_cast<float>(1.5957691216057308 * 0.044715);
    float z = x * x, s = sigmoid(x * (a + b * z));
    return s + x * s * (1.0f - s) * (a + 3.0f * b * z);
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

/// x / 2^n to the nearest integer, ties to even; n >= 0.
PLAIT_BOTH std::int64_t shifted_down(std::int64_t x, int n) {
    if (n == 0) return x;
    if (n > 62) return 0;  // |x| < 2^62 is less than half
    std::int64_t whole = x >> n, rest = x - (whole << n), half = std::int64_t{1} << (n - 1);
    return whole + (rest > half || (rest == half && (whole & 1)));
}

struct SquareWords {
    std::int64_t hi, lo;
};
/// The two words of `Squares` (ops/gradient_norm.hpp) for one |g| < 2^e. By integers, exactly, as GPUs are
/// slow at f64: g = mantissa * 2^k, so v = mantissa^2 * 2^(2 (k - e) + bits).
PLAIT_BOTH SquareWords square_words(float g, int e, int bits) {
    auto u = magnitude_bits(g);
    int exponent = static_cast<int>(u >> 23);
    std::int64_t mantissa = exponent ? (u & 0x7fffffu) | 0x800000u : u;
    int k = (exponent ? exponent : 1) - 150;
    std::int64_t square = mantissa * mantissa;  // < 2^48
    int down = 2 * (e - k) - bits;              // v = square / 2^down
    if (down <= 0) return {square << -down, 0};
    std::int64_t hi = shifted_down(square, down);
    if (down >= bits) {
        std::int64_t rest = down > 62 ? square : square - (hi << down);
        return {hi, shifted_down(rest, down - bits)};
    }
    return {hi, (square - (hi << down)) << (bits - down)};
}

}  // namespace plait::cuda
