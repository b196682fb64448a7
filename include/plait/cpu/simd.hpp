#pragma once

#include "plait/core/dtype.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// The kernels are compiled once per instruction set, each time in a namespace of its own. This page is the
// only one that looks at the instruction set.
#ifndef PLAIT_CPU_TARGET
#define PLAIT_CPU_TARGET base
#endif

// Said by a file that switches instruction sets by pragma, after which GCC's macros stay as they were.
#ifndef PLAIT_VECTOR_BYTES
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define PLAIT_VECTOR_BYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#define PLAIT_VECTOR_BYTES 32
#else
#define PLAIT_VECTOR_BYTES 16
#endif
#endif

/// Everything on vectors is inlined: a vector never crosses a call, so no calling convention depends on the
/// target.
#define PLAIT_SIMD inline __attribute__((always_inline))

namespace plait::cpu::PLAIT_CPU_TARGET {

template <class E, int N>
struct VectorOf {
    typedef E type __attribute__((vector_size(N * sizeof(E))));
};
/// Elements of the compute type `C` (float, double, std::int64_t) that one register holds.
template <class C>
inline constexpr int lanes = PLAIT_VECTOR_BYTES / static_cast<int>(sizeof(C));
template <class C>
using Vector = typename VectorOf<C, lanes<C>>::type;

using Floats = Vector<float>;
using Doubles = Vector<double>;
using Longs = Vector<std::int64_t>;
using Ints = VectorOf<std::int32_t, lanes<float>>::type;
using Unsigned = VectorOf<std::uint32_t, lanes<float>>::type;

template <class V>
using ElementOf = std::remove_cvref_t<decltype(V{}[0])>;

/// All lanes `s`; keeps the sign of a zero.
template <class V>
PLAIT_SIMD V splat(ElementOf<V> s) {
    return s - V{};
}

/// Says that a load or store takes a whole vector; an int in its place takes only the first so many lanes.
struct All {};

template <class To, class From>
PLAIT_SIMD To convert(From v) {
    return __builtin_convertvector(v, To);
}

template <int N>
PLAIT_SIMD typename VectorOf<float, N>::type widen(typename VectorOf<std::uint16_t, N>::type v) {
    using Words = typename VectorOf<std::uint32_t, N>::type;
    using Result = typename VectorOf<float, N>::type;
#if PLAIT_VECTOR_BYTES == 64
    if constexpr (N == 16) return (Result)((Words)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)v) << 16);
#endif
    return (Result)(convert<Words>(v) << 16);
}
/// The rounding of Bf16's constructor.
template <int N>
PLAIT_SIMD typename VectorOf<std::uint16_t, N>::type narrow(typename VectorOf<float, N>::type v) {
    using Words = typename VectorOf<std::uint32_t, N>::type;
    using Signed = typename VectorOf<std::int32_t, N>::type;
    auto u = (Words)v;
    auto nan = (Signed)(u & 0x7fffffffu) > 0x7f800000;
    Words even = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x40u;
    Words bits = ((Words)nan & quiet) | (~(Words)nan & even);
#if PLAIT_VECTOR_BYTES == 64
    if constexpr (N == 16)
        return (typename VectorOf<std::uint16_t, N>::type)_mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)bits);
#elif PLAIT_VECTOR_BYTES == 32
    if constexpr (N == 8) {
        auto packed = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)bits, (__m256i)bits), 0x08);
        return (typename VectorOf<std::uint16_t, N>::type)_mm256_castsi256_si128(packed);
    }
#endif
    return convert<typename VectorOf<std::uint16_t, N>::type>(bits);
}

/// `lanes<C>` elements at `p`, at any address.
template <class C, class T>
PLAIT_SIMD Vector<C> load(T const* p, All = {}) {
    constexpr int n = lanes<C>;
    if constexpr (std::is_same_v<T, Bf16>) {
        typename VectorOf<std::uint16_t, n>::type bits;
        std::memcpy(&bits, p, sizeof bits);
        if constexpr (std::is_same_v<C, float>) return widen<n>(bits);
        else return convert<Vector<C>>(widen<n>(bits));
    } else {
        typename VectorOf<T, n>::type v;
        std::memcpy(&v, p, sizeof v);
        if constexpr (std::is_same_v<C, T>) return v;
        else return __builtin_convertvector(v, Vector<C>);  // v may be wider than a register
    }
}
template <class C, class T>
PLAIT_SIMD void store(T* p, Vector<C> v, All = {}) {
    constexpr int n = lanes<C>;
    if constexpr (std::is_same_v<T, Bf16>) {
        typename VectorOf<std::uint16_t, n>::type bits;
        if constexpr (std::is_same_v<C, float>) bits = narrow<n>(v);
        else bits = narrow<n>(convert<typename VectorOf<float, n>::type>(v));
        std::memcpy(static_cast<void*>(p), &bits, sizeof bits);
    } else if constexpr (std::is_same_v<C, T>) {
        std::memcpy(p, &v, sizeof v);
    } else {
        typedef typename VectorOf<T, n>::type Stored;
        Stored w = __builtin_convertvector(v, Stored);
        std::memcpy(p, &w, sizeof w);
    }
}
/// The same for the first `n` lanes; the others load zero and are not stored.
template <class C, class T>
PLAIT_SIMD Vector<C> load(T const* p, int n) {
    T padded[lanes<C>] = {};
    std::memcpy(static_cast<void*>(padded), p, static_cast<std::size_t>(n) * sizeof(T));
    return load<C>(static_cast<T const*>(padded));
}
template <class C, class T>
PLAIT_SIMD void store(T* p, Vector<C> v, int n) {
    T padded[lanes<C>];
    store<C>(static_cast<T*>(padded), v);
    std::memcpy(static_cast<void*>(p), padded, static_cast<std::size_t>(n) * sizeof(T));
}

/// Calls f(i, count) for the vectors that cover [0, n): `count` is All, or for the rest the number of lanes.
/// The rest runs the same code on padded vectors, so an element's bits depend neither on its place nor on its
/// address.
template <class C, class F>
PLAIT_SIMD void for_lanes(std::int64_t n, F&& f) {
    std::int64_t i = 0;
    for (; i + lanes<C> <= n; i += lanes<C>) f(i, All{});
    if (i < n) f(i, static_cast<int>(n - i));
}

template <class V>
PLAIT_SIMD V select(decltype(V{} < V{}) mask, V a, V b) {
    return mask ? a : b;
}
/// The greater; NaN when one is NaN.
template <class V>
PLAIT_SIMD V max(V a, V b) {
    if constexpr (std::is_floating_point_v<ElementOf<V>>) return select<V>((a > b) | (a != a), a, b);
    else return select<V>(a > b, a, b);
}
template <class V>
PLAIT_SIMD V min(V a, V b) {
    if constexpr (std::is_floating_point_v<ElementOf<V>>) return select<V>((a < b) | (a != a), a, b);
    else return select<V>(a < b, a, b);
}
/// The greater, quicker; b when one is NaN.
template <class V>
PLAIT_SIMD V max_number(V a, V b) {
    return select<V>(a > b, a, b);
}

template <class V>
PLAIT_SIMD V keep(V v, All, ElementOf<V>) {
    return v;
}
/// The first `n` lanes of v, and `rest` in the others.
template <class V>
PLAIT_SIMD V keep(V v, int n, ElementOf<V> rest) {
    ElementOf<V> a[sizeof(V) / sizeof(ElementOf<V>)];
    std::memcpy(a, &v, sizeof v);
    for (int i = n; i < static_cast<int>(sizeof(V) / sizeof(ElementOf<V>)); ++i) a[i] = rest;
    std::memcpy(&v, a, sizeof v);
    return v;
}

/// Folds the lanes of v by `combine`, halves onto halves.
template <class V, class F>
PLAIT_SIMD ElementOf<V> fold(V v, F&& combine) {
    constexpr int n = static_cast<int>(sizeof(V) / sizeof(ElementOf<V>));
    if constexpr (n == 1) {
        return v[0];
    } else {
        using Half = typename VectorOf<ElementOf<V>, n / 2>::type;
        Half half[2];
        std::memcpy(half, &v, sizeof v);
        return fold<Half>(combine(half[0], half[1]), combine);
    }
}

/// Folds f(i, count) over the vectors that cover [0, n) in an order that depends on n alone.
template <class C, class F, class Combine>
PLAIT_SIMD C fold_lanes(std::int64_t n, C identity, F&& f, Combine&& combine) {
    using V = Vector<C>;
    constexpr int w = lanes<C>;
    V a[4] = {splat<V>(identity), splat<V>(identity), splat<V>(identity), splat<V>(identity)};
    std::int64_t i = 0;
    for (; i + 4 * w <= n; i += 4 * w)
        for (int k = 0; k < 4; ++k) a[k] = combine(a[k], f(i + k * w, All{}));
    for (; i + w <= n; i += w) a[0] = combine(a[0], f(i, All{}));
    if (i < n) {
        int rest = static_cast<int>(n - i);
        a[1] = combine(a[1], keep(f(i, rest), rest, identity));
    }
    return fold<V>(combine(combine(a[0], a[1]), combine(a[2], a[3])), combine);
}
template <class C, class F>
PLAIT_SIMD C sum_lanes(std::int64_t n, F&& f) {
    return fold_lanes<C>(
        n, C{0}, f, [=](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}
/// The greatest number; NaN does not count.
template <class C, class F>
PLAIT_SIMD C max_lanes(std::int64_t n, F&& f) {
    return fold_lanes<C>(
        n, -std::numeric_limits<C>::infinity(),
        f, [=](auto a, auto b) __attribute__((always_inline)) { return max_number(b, a); });
}

/// a * b + c, rounded once where the target can.
PLAIT_SIMD Floats fma(Floats a, Floats b, Floats c) {
#if PLAIT_VECTOR_BYTES == 64
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif PLAIT_VECTOR_BYTES == 32
    return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}
PLAIT_SIMD Doubles fma(Doubles a, Doubles b, Doubles c) {
#if PLAIT_VECTOR_BYTES == 64
    return (Doubles)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif PLAIT_VECTOR_BYTES == 32
    return (Doubles)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

/// f of each lane, by the C library.
template <class V, class F>
PLAIT_SIMD V each_lane(V v, F&& f) {
    constexpr int n = static_cast<int>(sizeof(V) / sizeof(ElementOf<V>));
    ElementOf<V> a[n];
    std::memcpy(a, &v, sizeof v);
    for (int i = 0; i < n; ++i) a[i] = f(a[i]);
    std::memcpy(&v, a, sizeof v);
    return v;
}

PLAIT_SIMD Floats sqrt(Floats x) {
#if PLAIT_VECTOR_BYTES == 64
    return (Floats)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
#elif PLAIT_VECTOR_BYTES == 32
    return (Floats)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (Floats)_mm_sqrt_ps((__m128)x);
#else
    return each_lane(x, [=](float s) { return __builtin_sqrtf(s); });
#endif
}
PLAIT_SIMD Doubles sqrt(Doubles x) {
    return each_lane(x, [=](double s) { return __builtin_sqrt(s); });
}

/// 32-bit numbers, each in a 64-bit lane, and their full products.
using Wide = VectorOf<std::uint64_t, lanes<double>>::type;

/// The product of the low halves of each lane.
PLAIT_SIMD Wide multiply_low(Wide a, Wide b) {
#if PLAIT_VECTOR_BYTES == 64
    return (Wide)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif PLAIT_VECTOR_BYTES == 32
    return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
