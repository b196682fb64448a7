#pragma once

#include "plait/cpu/simd.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

PLAIT_SIMD constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

/// Cuts one workspace into 64-byte aligned pieces; without a base it only counts.
struct Pieces {
    std::byte* base = nullptr;
    std::int64_t used = 0;

    template <class T>
    T* take(std::int64_t n) {
        auto* p = base ? reinterpret_cast<T*>(base + used) : nullptr;
        used += round_up(n * static_cast<std::int64_t>(sizeof(T)), 64);
        return p;
    }
};

/// Element (i, j) lies at p[i * row + j * column].
template <class C>
struct Strided {
    C* p = nullptr;
    std::int64_t row = 0, column = 1;
};

// R rows by N vectors of the result, held in registers over the whole contraction. The sum runs over k in
// order, so an element's bits do not depend on its place.
template <int R, int N, class C>
inline void register_tile(std::int64_t k, Strided<C const> a, C const* b, std::int64_t b_row, C* c,
                          std::int64_t c_row, bool add) {
    using V = Vector<C>;
    constexpr int w = lanes<C>;
    V sum[R][N] = {};
    for (int i = 0; add && i < R; ++i)
        for (int j = 0; j < N; ++j) sum[i][j] = load<C>(c + i * c_row + j * w);
    for (std::int64_t l = 0; l < k; ++l) {
        V line[N];
        for (int j = 0; j < N; ++j) line[j] = load<C>(b + l * b_row + j * w);
        for (int i = 0; i < R; ++i) {
            V s = splat<V>(a.p[i * a.row + l * a.column]);
            for (int j = 0; j < N; ++j) sum[i][j] = fma(s, line[j], sum[i][j]);
        }
    }
    for (int i = 0; i < R; ++i)
        for (int j = 0; j < N; ++j) store<C>(c + i * c_row + j * w, sum[i][j]);
}

template <int N, class C>
inline void register_tiles(std::int64_t m, std::int64_t k, Strided<C const> a, C const* b, std::int64_t b_row,
                           C* c, std::int64_t c_row, bool add) {
    constexpr int tall = PLAIT_VECTOR_BYTES == 64 ? 6 : 4;
    std::int64_t i = 0;
    auto at = [&](std::int64_t r) { return Strided<C const>{a.p + r * a.row, a.row, a.column}; };
    for (; i + tall <= m; i += tall) register_tile<tall, N>(k, at(i), b, b_row, c + i * c_row, c_row, add);
    if (i + 4 <= m) register_tile<4, N>(k, at(i), b, b_row, c + i * c_row, c_row, add), i += 4;
    for (; i < m; ++i) register_tile<1, N>(k, at(i), b, b_row, c + i * c_row, c_row, add);
}

/// C[m, n] (+)= A[m, k] · B[k, n] on blocks that lie in the nearest caches; n is a multiple of `lanes<C>`.
template <class C>
inline void block_product(std::int64_t m, std::int64_t n, std::int64_t k, Strided<C const> a, C const* b,
                          std::int64_t b_row, C* c, std::int64_t c_row, bool add) {
    constexpr int w = lanes<C>, wide = PLAIT_VECTOR_BYTES == 64 ? 4 : 2;
    std::int64_t j = 0;
    for (; j + wide * w <= n; j += wide * w) register_tiles<wide>(m, k, a, b + j, b_row, c + j, c_row, add);
    if (wide == 4 && j + 2 * w <= n) register_tiles<2>(m, k, a, b + j, b_row, c + j, c_row, add), j += 2 * w;
    if (j < n) register_tiles<1>(m, k, a, b + j, b_row, c + j, c_row, add);
}

/// Rows of `n` elements in the compute type, filled up with zeros to `to_row`.
template <class C, class T>
inline void load_rows(T const* from, std::int64_t from_row, C* to, std::int64_t to_row, std::int64_t rows,
                      std::int64_t n) {
    for (std::int64_t i = 0; i < rows; ++i)
        for_lanes<C>(
            n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                store<C>(to + i * to_row + j, load<C>(from + i * from_row + j, count));
            });
}

/// The transpose of `rows` rows of `n` elements, times `scale`: to[j * to_row + i]; columns up to a whole
/// vector are zero.
template <class C, class T>
inline void transpose_rows(T const* from, std::int64_t from_row, C* to, std::int64_t to_row,
                           std::int64_t rows, std::int64_t n, C scale) {
    auto end = round_up(rows, lanes<C>);
    for (std::int64_t j = 0; j < n; ++j) {
        auto* line = to + j * to_row;
        for (std::int64_t i = 0; i < rows; ++i) line[i] = scale * static_cast<C>(from[i * from_row + j]);
        for (auto i = rows; i < end; ++i) line[i] = 0;
    }
}

/// Rows of the compute type stored as T.
template <class C, class T>
inline void store_rows(C const* from, std::int64_t from_row, T* to, std::int64_t to_row, std::int64_t rows,
                       std::int64_t n) {
    for (std::int64_t i = 0; i < rows; ++i)
        for_lanes<C>(
            n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                store<C>(to + i * to_row + j, load<C>(from + i * from_row + j, count), count);
            });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
