#pragma once

#include "cuda/launch.hpp"
#include "cuda/rows.hpp"

#include <array>
#include <vector>

namespace plait::cuda {

/// `dtype` as kernels know it; throws Error for f64.
inline Type type_of(KernelCall const& call, DType dtype) {
    switch (dtype) {
        case DType::f32:
            return Type::f32;
        case DType::bf16:
            return Type::bf16;
        case DType::i32:
            return Type::i32;
        case DType::i64:
            return Type::i64;
        case DType::u8:
            return Type::u8;
        case DType::f64:
            break;
    }
    unsupported(call, dtype);
}
inline Source source(KernelCall const& call, Buffer const& x) {
    return {x.data, type_of(call, x.meta.dtype)};
}
inline Target target(KernelCall const& call, Buffer const& y) {
    return {y.data, type_of(call, y.meta.dtype)};
}

/// Calls f(T{}) with the floating type in storage; throws Error for other dtypes.
template <class F>
void with_floats(KernelCall const& call, DType dtype, F&& f) {
    if (dtype == DType::f32) f(float{});
    else if (dtype == DType::bf16) f(Bf16{});
    else unsupported(call, dtype);
}

/// Adds a dim of n within those that the walk has, which it joins where it can.
template <int tensors>
void add_dim(Strides<tensors>& walk, std::int64_t n, std::array<std::int64_t, tensors> const& stride) {
    if (n == 1) return;
    int last = walk.rank - 1;
    bool joins = last >= 0;
    for (int k = 0; k < tensors; ++k)
        joins = joins && walk.stride[k][last] == stride[static_cast<std::size_t>(k)] * n;
    if (joins) walk.size[last] *= n;
    else walk.size[last = walk.rank++] = n;
    for (int k = 0; k < tensors; ++k) walk.stride[k][last] = stride[static_cast<std::size_t>(k)];
}

/// Elements along dims [first, last).
inline std::int64_t elements(Shape const& s, int first, int last) {
    std::int64_t n = 1;
    for (int i = first; i < last; ++i) n *= s[i];
    return n;
}

/// Adds the dims of a block as they lie in its logical tensor; gives the number of its first element there.
inline std::int64_t add_logical_dims(Strides<1>& walk, Buffer const& block) {
    Shape const& s = block.meta.shape;
    auto const& logical = block.block.logical.empty() ? s : block.block.logical;
    std::int64_t start = 0;
    for (int d = 0; d < s.rank(); ++d) {
        std::int64_t stride = elements(logical, d + 1, s.rank());
        add_dim<1>(walk, s[d], {stride});
        if (!block.block.origin.empty()) start += block.block.origin[d] * stride;
    }
    return start;
}

/// Rounds up to whole cache lines.
constexpr std::int64_t padded(std::int64_t bytes) { return pieces(bytes, 256) * 256; }

/// Copies the elements, of `bytes` bytes, that a walk by strides of bytes finds: from one tensor to another,
/// or zeros from nowhere. view.cpp
void copy_by(Queue& queue, std::byte* to, std::byte const* from, Strides<2> walk, std::int64_t bytes);

/// Copies a block from its place in the whole, `start` elements on along `dim`, or with `out` into it.
/// view.cpp
void copy_block(KernelCall const& call, Buffer const& whole, Buffer const& block, int dim, std::int64_t start,
                bool out);
/// The inputs one after another along `dim` of the output. view.cpp
void put_side_by_side(KernelCall const& call, int dim);

/// y = the sum of tensors of n elements of y's dtype in their order, or with `largest` their maximum. y may
/// be the first of them. micro.cpp
void fold_flat(KernelCall const& call, Buffer const& y, std::vector<Buffer> const& x, std::int64_t n,
               bool largest);

}  // namespace plait::cuda
