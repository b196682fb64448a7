#pragma once

#include "plait/core/dtype.hpp"
#include "plait/core/inline.hpp"

#include <cstddef>
#include <cstdint>

namespace plait {

/// One serial product C[m, n] (+)= op(A)[m, k] · op(B)[k, n] of row-major operands. Sums in f32, or f64 for
/// f64.
struct GemmShape {
    std::int64_t m = 0, n = 0, k = 0;
    bool transpose_a = false, transpose_b = false;  // A is stored [k, m], B [n, k]
    DType in = f32, out = f32;                      // f32 -> f32, f64 -> f64, bf16 -> bf16 or f32
    bool accumulate = false;                        // add to C, rounding once
    std::int64_t lda = 0, ldb = 0, ldc = 0;         // elements from row to row; 0: dense

    bool operator==(GemmShape const&) const = default;
};

/// Bytes of scratch that `gemm` wants for `shape`, a multiple of 64, fixed on one machine.
std::int64_t gemm_workspace(GemmShape const& shape);

/// Computes the product in the calling thread with the fastest library at hand: oneDNN where it has a kernel
/// for the shape, else OpenBLAS, else Eigen; bf16 without a kernel goes through f32 in blocks. The bits
/// depend on the shape and the machine only, not on addresses or threads. `workspace` is 64-byte aligned. k =
/// 0 gives zeros.
void gemm(GemmShape const& shape, void const* a, void const* b, void* c, std::byte* workspace);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/cpu/gemm-inl.hpp"
#endif
