#pragma once

#include "cuda/queue.hpp"
#include "plait/exec/kernel.hpp"

namespace plait::cuda {

/// Bytes rounded up, so that what lies behind them starts as the workspace does.
constexpr std::int64_t padded(std::int64_t bytes) { return (bytes + 255) / 256 * 256; }

/// Bytes that `multiply` wants for a product of these sizes.
std::int64_t multiply_bytes(std::int64_t m, std::int64_t n, std::int64_t k);

/// Puts a product on the call's queue, of any sizes: over k = 0 it gives zeros. `workspace` has
/// multiply_bytes(). False, with nothing done, where `row_sums` are asked for and are better made apart.
bool multiply(KernelCall const& call, std::byte* workspace, Multiplication product);

/// Throws Error where a GPU does not compute in this dtype.
void want_computable(KernelCall const& call, DType dtype);

/// The rows of a tensor seen as a matrix, which are all its leading dims, and its columns.
inline std::int64_t columns_of(Shape const& s) { return s[s.rank() - 1]; }
inline std::int64_t rows_of(Shape const& s) { return s.leading(s.rank() - 1).elements(); }

}  // namespace plait::cuda
