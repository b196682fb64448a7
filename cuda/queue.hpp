#pragma once

#include "plait/core/dtype.hpp"

#include <cstddef>
#include <cstdint>

namespace plait::cuda {

/// Factors that the elements of a matrix are multiplied with, where their dtype is too narrow for their
/// range. The seam for FP8 (one f32 for all), MXFP8 (a power of two for 32 elements along the summed dim) and
/// NVFP4 (an E4M3 for 16): no dtype of Plait has any yet.
enum class Scaling : std::uint8_t { none, whole, by_32, by_16 };

/// A matrix of a product, as it lies in memory: rows of `stride` elements.
struct Matrix {
    std::byte* data = nullptr;
    DType dtype = bf16;
    std::int64_t stride = 0;
    std::int64_t batch_stride = 0;  // elements from one matrix of a batch to the next
    bool transposed = false;        // memory holds the columns
    Scaling scaling = Scaling::none;
    std::byte const* scales = nullptr;
};

/// c[m, n] = a[m, k] b[k, n], or added to it, `batch` times. Sums are f32.
struct Multiplication {
    std::int64_t m = 0, n = 0, k = 0, batch = 1;
    Matrix a, b, c;  // a and b of one dtype, f32 or bf16; c of that one, or f32; c is never transposed
    bool accumulate = false;
    std::byte const* bias = nullptr;  // [n] of c's dtype, added to each row
    /// Like c, for the value before GELU; c is then GELU of it.
    std::byte* before_gelu = nullptr;
    /// Like c, and apart from it: c is the product times GELU's slope here. c is dense then.
    std::byte const* gelu_input = nullptr;
    /// f32 [m]: each row of a, added up, is written here. Of one product, not of a batch.
    std::byte* row_sums = nullptr;
    std::byte* workspace = nullptr;
    std::int64_t workspace_bytes = 0;
};
/// Bytes of workspace that a library may take for a product, whatever its shape.
inline constexpr std::int64_t product_workspace_bytes = 32 << 20;

/// What lies in a workspace from the first multiple of 256 on, as libraries want theirs. Its size is the same
/// wherever the workspace begins.
struct AlignedWorkspace {
    static constexpr std::int64_t alignment = 256;
    AlignedWorkspace(std::byte* workspace, std::int64_t size)
        : data(workspace + -reinterpret_cast<std::uintptr_t>(workspace) % alignment),
          bytes(size < alignment ? 0 : size - alignment) {}
    std::byte* data;
    std::int64_t bytes;
};

/// Attention of ops/attention.hpp, its tensors dense: forward, or backward where `dq` is given.
struct AttentionCall {
    std::int64_t batch = 0, heads = 0, kv_heads = 0, length = 0, keys = 0, dim = 0;
    DType dtype = bf16;
    bool causal = true;
    std::byte const *q = nullptr, *k = nullptr, *v = nullptr;
    std::byte *out = nullptr, *lse = nullptr;  // lse: f32[batch, heads, length], natural logarithm
    std::byte const* dout = nullptr;
    std::byte *dq = nullptr, *dk = nullptr, *dv = nullptr;
    std::byte* workspace = nullptr;
    std::int64_t workspace_bytes = 0;
};

/// What the rows of the backend's table put work on: things that a device does one after the other, out of
/// step with who asked for them. All memory is the device's.
class Queue {
  public:
    virtual ~Queue() = default;

    /// `blocks` blocks of kernel number `kernel` of table.cuh, a copy of whose arguments is kept.
    virtual void launch(int kernel, void const* arguments, std::size_t bytes, std::int64_t blocks) = 0;
    virtual void copy(std::byte* to, std::byte const* from, std::int64_t bytes) = 0;
    virtual void fill(std::byte* to, std::uint8_t value, std::int64_t bytes) = 0;
    /// False, with nothing done, where `row_sums` are asked for and are better made apart.
    virtual bool multiply(Multiplication const& product) = 0;
    /// By a library; false, with nothing done, where it does not take this shape or wants more workspace.
    virtual bool attend(AttentionCall const& call) = 0;
    /// A word, 0 at first, that a kernel of the current op raises when it meets a wrong value.
    virtual std::uint32_t* fault() = 0;
};

}  // namespace plait::cuda
