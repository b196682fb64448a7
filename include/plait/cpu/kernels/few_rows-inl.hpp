#pragma once

#include "plait/cpu/gemm.hpp"
#include "plait/cpu/kernels/blocks-inl.hpp"

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

/// R rows of x with N of w.
template <int R, int N, class C, class T, class Y>
inline void few_rows_block(GemmShape const& g, T const* x, T const* w, Y* y) {
    using V = Vector<C>;
    V sum[R][N] = {};
    for_lanes<C>(
        g.k, [&](std::int64_t l, auto count) __attribute__((always_inline)) {
            V a[R];
            for (int r = 0; r < R; ++r) a[r] = load<C>(x + r * g.lda + l, count);
            for (int n = 0; n < N; ++n) {
                V b = load<C>(w + n * g.ldb + l, count);
                for (int r = 0; r < R; ++r) sum[r][n] = fma(a[r], b, sum[r][n]);
            }
        });
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n)
            put(y + r * g.ldc + n,
                fold<V>(
                    sum[r][n], [](auto a, auto b) __attribute__((always_inline)) { return a + b; }),
                g.accumulate);
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
