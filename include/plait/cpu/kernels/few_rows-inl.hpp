#pragma once

#include "plait/cpu/gemm.hpp"
#include "plait/cpu/kernels/blocks-inl.hpp"

#include <utility>

// Products x · wᵀ of few rows, as when text is generated. They are bound by reading w, so a row of w is read
// once for all rows of x. Every result is a sum over k in an order of its own, so its bits know
// nothing of the other rows: a sequence has the same numbers alone and in a batch.
namespace plait::cpu::PLAIT_CPU_TARGET {

constexpr std::int64_t few_rows = 32;

PLAIT_SIMD bool has_few_rows(GemmShape const& g) {
    return g.m <= few_rows && !g.transpose_a && g.transpose_b;
}

template <class C, class T>
PLAIT_SIMD void put(T* to, C value, bool add) {
    if constexpr (std::is_same_v<T, Bf16>)
        *to = Bf16(static_cast<float>(add ? static_cast<C>(static_cast<float>(*to)) + value : value));
    else *to = static_cast<T>(add ? static_cast<C>(*to) + value : value);
}

/// Half of every run of `run` lanes of a, then of b: the first halves, or with `Second` the second ones.
template <int Run, bool Second, class V, int... Lane>
PLAIT_SIMD V half_runs(V a, V b, std::integer_sequence<int, Lane...>) {
    constexpr int w = sizeof...(Lane), half = Run / 2, runs = w / Run;
    return __builtin_shufflevector(
        a, b, (Lane / half < runs ? 0 : w) + Lane / half % runs * Run + Lane % half + (Second ? half : 0)...);
}
/// The sums of the lanes of each of `Count` vectors (a power of two), in the order of `fold`: halves onto
/// halves, several vectors in one.
template <class C, int Count, int Run = lanes<C>>
PLAIT_SIMD void fold_all(Vector<C> const* v, C* sums) {
    if constexpr (Run == 1) {
        std::memcpy(sums, v, Count * sizeof *v);
    } else if constexpr (Count == 1) {
        C lane[lanes<C>];
        std::memcpy(lane, v, sizeof lane);
        for (int first = 0; first < lanes<C>; first += Run) {
            for (int half = Run / 2; half > 0; half /= 2)
                for (int i = 0; i < half; ++i) lane[first + i] += lane[first + half + i];
            sums[first / Run] = lane[first];
        }
    } else {
        Vector<C> together[Count / 2];
        auto each = std::make_integer_sequence<int, lanes<C>>();
        for (int i = 0; i < Count / 2; ++i)
            together[i] = half_runs<Run, false>(v[2 * i], v[2 * i + 1], each) +
                          half_runs<Run, true>(v[2 * i], v[2 * i + 1], each);
        fold_all<C, Count / 2, Run / 2>(together, sums);
    }
}

/// R rows of x with N of w.
template <int R, int N, class C, class T, class Y>
inline void few_rows_block(GemmShape const& g, T const* x, T const* w, Y* y) {
    using V = Vector<C>;
    V sum[R][N] = {};
    std::int64_t l = 0;
    for (; l + lanes<C> <= g.k; l += lanes<C>) {
        V a[R];
        for (int r = 0; r < R; ++r) a[r] = load<C>(x + r * g.lda + l);
        for (int n = 0; n < N; ++n) {
            V b = load<C>(w + n * g.ldb + l);
            for (int r = 0; r < R; ++r) sum[r][n] = fma(a[r], b, sum[r][n]);
        }
    }
    // A copy, so that the sums above need no memory.
    V all[R * N];
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) all[r * N + n] = sum[r][n];
    if (l < g.k) {
        int rest = static_cast<int>(g.k - l);
        for (int n = 0; n < N; ++n) {
            V b = load<C>(w + n * g.ldb + l, rest);
            for (int r = 0; r < R; ++r)
                all[r * N + n] = fma(load<C>(x + r * g.lda + l, rest), b, all[r * N + n]);
        }
    }
    C total[R * N];
    fold_all<C, R * N>(all, total);
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) put(y + r * g.ldc + n, total[r * N + n], g.accumulate);
}

template <int N, class C, class T, class Y>
inline void few_rows_columns(GemmShape const& g, T const* x, T const* w, Y* y) {
    constexpr int tall = PLAIT_VECTOR_BYTES == 64 ? 4 : 2;
    std::int64_t r = 0;
    for (; r + tall <= g.m; r += tall) few_rows_block<tall, N, C>(g, x + r * g.lda, w, y + r * g.ldc);
    for (; r < g.m; ++r) few_rows_block<1, N, C>(g, x + r * g.lda, w, y + r * g.ldc);
}

template <class C, class T, class Y>
inline void few_rows_product(GemmShape const& g, T const* x, T const* w, Y* y) {
    std::int64_t n = 0;
    // One row has registers for more rows of w.
    for (; g.m == 1 && n + 8 <= g.n; n += 8) few_rows_block<1, 8, C>(g, x, w + n * g.ldb, y + n);
    for (; n + 4 <= g.n; n += 4) few_rows_columns<4, C>(g, x, w + n * g.ldb, y + n);
    for (; n < g.n; ++n) few_rows_columns<1, C>(g, x, w + n * g.ldb, y + n);
}

/// gemm, or these loops where they serve better: fixed by the shape.
inline void multiply(GemmShape const& g, void const* a, void const* b, void* c, std::byte* workspace) {
    if (!has_few_rows(g)) return gemm(g, a, b, c, workspace);
    auto run = [&](auto const* x, auto* y) {
        using T = std::remove_cvref_t<decltype(*x)>;
        using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
        few_rows_product<C>(g, x, static_cast<T const*>(b), y);
    };
    if (g.in == DType::f32) run(static_cast<float const*>(a), static_cast<float*>(c));
    else if (g.in == DType::f64) run(static_cast<double const*>(a), static_cast<double*>(c));
    else if (g.out == DType::f32) run(static_cast<Bf16 const*>(a), static_cast<float*>(c));
    else run(static_cast<Bf16 const*>(a), static_cast<Bf16*>(c));
}
inline std::int64_t multiply_workspace(GemmShape const& g) { return has_few_rows(g) ? 0 : gemm_workspace(g); }

}  // namespace plait::cpu::PLAIT_CPU_TARGET
