#pragma once

#include "plait/cpu/gemm.hpp"

#ifdef PLAIT_HAS_CBLAS
#include <cblas.h>
#else
#include <Eigen/Core>
#endif
#ifdef PLAIT_HAS_ONEDNN
#include "plait/cpu/gemm_onednn-inl.hpp"
#endif

#include <algorithm>
#include <cstring>

namespace plait {
namespace detail {

inline GemmShape with_strides(GemmShape g) {
    // One row has no stride to speak of.
    if (!g.lda || (g.transpose_a ? g.k : g.m) == 1) g.lda = g.transpose_a ? g.m : g.k;
    if (!g.ldb || (g.transpose_b ? g.n : g.k) == 1) g.ldb = g.transpose_b ? g.k : g.n;
    if (!g.ldc || g.m == 1) g.ldc = g.n;
    return g;
}

template <class T>
void blas_gemm(GemmShape const& g, T const* a, T const* b, T* c) {
#ifdef PLAIT_HAS_CBLAS
    static bool const serial = (openblas_set_num_threads(1), true);
    (void)serial;
    auto run = [&](auto f) {
        f(CblasRowMajor, g.transpose_a ? CblasTrans : CblasNoTrans, g.transpose_b ? CblasTrans : CblasNoTrans,
          static_cast<blasint>(g.m), static_cast<blasint>(g.n), static_cast<blasint>(g.k), T{1}, a,
          static_cast<blasint>(g.lda), b, static_cast<blasint>(g.ldb), g.accumulate ? T{1} : T{0}, c,
          static_cast<blasint>(g.ldc));
    };
    if constexpr (std::is_same_v<T, float>) run(cblas_sgemm);
    else run(cblas_dgemm);
#else
    using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using Stride = Eigen::OuterStride<>;
    auto in = [](T const* p, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
        return Eigen::Map<Matrix const, 0, Stride>(p, rows, columns, Stride(stride));
    };
    auto ma = g.transpose_a ? in(a, g.k, g.m, g.lda) : in(a, g.m, g.k, g.lda);
    auto mb = g.transpose_b ? in(b, g.n, g.k, g.ldb) : in(b, g.k, g.n, g.ldb);
    Eigen::Map<Matrix, 0, Stride> mc(c, g.m, g.n, Stride(g.ldc));
    if (!g.accumulate) mc.setZero();
    if (g.transpose_a && g.transpose_b) mc.noalias() += ma.transpose() * mb.transpose();
    else if (g.transpose_a) mc.noalias() += ma.transpose() * mb;
    else if (g.transpose_b) mc.noalias() += ma * mb.transpose();
    else mc.noalias() += ma * mb;
#endif
}

// bf16 without a kernel: blocks widened to f32, small enough to stay in the second-level cache.
constexpr std::int64_t widened_rows = 256, widened_depth = 256;
constexpr std::int64_t widened_bytes =
    (2 * widened_rows * widened_depth + widened_rows * widened_rows) * std::int64_t{sizeof(float)};

/// Block [rows, columns] of a matrix with stride `from_stride`, widened.
inline void widen(Bf16 const* from, std::int64_t from_stride, float* to, std::int64_t rows,
                  std::int64_t columns) {
    for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
            to[i * columns + j] = static_cast<float>(from[i * from_stride + j]);
}

inline void widened_gemm(GemmShape const& g, Bf16 const* a, Bf16 const* b, void* c, std::byte* workspace) {
    auto* wa = reinterpret_cast<float*>(workspace);
    auto* wb = wa + widened_rows * widened_depth;
    auto* wc = wb + widened_rows * widened_depth;
    for (std::int64_t i = 0; i < g.m; i += widened_rows) {
        for (std::int64_t j = 0; j < g.n; j += widened_rows) {
            GemmShape part = g;
            part.m = std::min(widened_rows, g.m - i), part.n = part.ldc = std::min(widened_rows, g.n - j);
            for (std::int64_t l = 0; l < g.k; l += widened_depth) {
                part.k = std::min(widened_depth, g.k - l), part.accumulate = l > 0;
                part.lda = g.transpose_a ? part.m : part.k, part.ldb = g.transpose_b ? part.k : part.n;
                if (g.transpose_a) widen(a + l * g.lda + i, g.lda, wa, part.k, part.m);
                else widen(a + i * g.lda + l, g.lda, wa, part.m, part.k);
                if (g.transpose_b) widen(b + j * g.ldb + l, g.ldb, wb, part.n, part.k);
                else widen(b + l * g.ldb + j, g.ldb, wb, part.k, part.n);
                blas_gemm<float>(part, wa, wb, wc);
            }
            auto store = [&](auto* to) {
                for (std::int64_t r = 0; r < part.m; ++r) {
                    for (std::int64_t s = 0; s < part.n; ++s) {
                        auto& y = to[(i + r) * g.ldc + j + s];
                        float sum = wc[r * part.n + s];
                        y = static_cast<std::remove_reference_t<decltype(y)>>(
                            g.accumulate ? static_cast<float>(y) + sum : sum);
                    }
                }
            };
            if (g.out == f32) store(static_cast<float*>(c));
            else store(static_cast<Bf16*>(c));
        }
    }
}

enum class GemmPath { onednn, blas, widened };
inline GemmPath gemm_path(GemmShape const& g) {
#ifdef PLAIT_HAS_ONEDNN
    if (onednn_runs(g)) return GemmPath::onednn;
#endif
    return g.in == bf16 ? GemmPath::widened : GemmPath::blas;
}

/// Where the contraction is summed in blocks, adding to C would give other bits than the product and a sum
/// do, so the product gets a place of its own first.
inline bool sums_apart(GemmShape const& g, GemmPath path) {
    if (!g.accumulate || path == GemmPath::widened) return false;
#ifdef PLAIT_HAS_ONEDNN
    if (path == GemmPath::onednn) return OneDnnPlan(g).block < g.k;
#endif
    return true;
}
inline GemmShape apart(GemmShape g) {
    g.accumulate = false, g.ldc = g.n;
    return g;
}
inline std::int64_t apart_bytes(GemmShape const& g) { return (bytes_of(g.out, g.m * g.n) + 63) / 64 * 64; }

template <class T>
void add_rows(GemmShape const& g, T const* from, T* to) {
    for (std::int64_t i = 0; i < g.m; ++i)
        for (std::int64_t j = 0; j < g.n; ++j) to[i * g.ldc + j] += from[i * g.n + j];
}

}  // namespace detail

PLAIT_INLINE std::int64_t gemm_workspace(GemmShape const& shape) {
    auto g = detail::with_strides(shape);
    if (!g.m || !g.n || !g.k) return 0;
    auto path = detail::gemm_path(g);
    if (detail::sums_apart(g, path)) return detail::apart_bytes(g) + gemm_workspace(detail::apart(g));
#ifdef PLAIT_HAS_ONEDNN
    if (path == detail::GemmPath::onednn) return detail::onednn_workspace(g);
#endif
    return path == detail::GemmPath::widened ? detail::widened_bytes : 0;
}

PLAIT_INLINE void gemm(GemmShape const& shape, void const* a, void const* b, void* c, std::byte* workspace) {
    auto g = detail::with_strides(shape);
    if (!g.m || !g.n) return;
    if (!g.k) {
        auto row = static_cast<std::size_t>(bytes_of(g.out, g.n));
        for (std::int64_t i = 0; i < g.m && !g.accumulate; ++i)
            std::memset(static_cast<std::byte*>(c) + bytes_of(g.out, i * g.ldc), 0, row);
        return;
    }
    auto path = detail::gemm_path(g);
    if (detail::sums_apart(g, path)) {
        gemm(detail::apart(g), a, b, workspace, workspace + detail::apart_bytes(g));
        if (g.out == f64)
            detail::add_rows(g, reinterpret_cast<double const*>(workspace), static_cast<double*>(c));
        else detail::add_rows(g, reinterpret_cast<float const*>(workspace), static_cast<float*>(c));
        return;
    }
    switch (path) {
        case detail::GemmPath::onednn:
#ifdef PLAIT_HAS_ONEDNN
            detail::onednn_gemm(g, a, b, c, workspace);
#endif
            break;
        case detail::GemmPath::blas:
            if (g.in == f64)
                detail::blas_gemm(g, static_cast<double const*>(a), static_cast<double const*>(b),
                                  static_cast<double*>(c));
            else
                detail::blas_gemm(g, static_cast<float const*>(a), static_cast<float const*>(b),
                                  static_cast<float*>(c));
            break;
        case detail::GemmPath::widened:
            detail::widened_gemm(g, static_cast<Bf16 const*>(a), static_cast<Bf16 const*>(b), c, workspace);
            break;
    }
}

}  // namespace plait
