#pragma once

#include "plait/tensor.hpp"

#include <vector>

namespace plait {

/// The same elements under another shape. Moves no bytes.
struct Reshape {
    static constexpr std::string_view name = "reshape";
    Shape shape;
    using fields = Fields<&Reshape::shape>;

    Metas infer(Metas const& in) const;
    /// Dims that the two shapes share or split evenly become common factors, outermost first; the rest is
    /// whole.
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0, true}}; }
    AnyOp localized(Metas const& in, Metas const& out) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// Output dim i is input dim order[i].
struct Transpose {
    static constexpr std::string_view name = "transpose";
    std::vector<int> order;
    using fields = Fields<&Transpose::order>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// Elements [start, start + length) along `dim`, which stays whole.
struct Slice {
    static constexpr std::string_view name = "slice";
    int dim = 0;
    std::int64_t start = 0, length = 0;
    using fields = Fields<&Slice::dim, &Slice::start, &Slice::length>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// Zeros before and after x along `dim`, which stays whole: the transpose of Slice.
struct Pad {
    static constexpr std::string_view name = "pad";
    int dim = 0;
    std::int64_t before = 0, after = 0;
    using fields = Fields<&Pad::dim, &Pad::before, &Pad::after>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// The inputs one after another along `dim`, which stays whole; other dims are equal.
struct Concat {
    static constexpr std::string_view name = "concat";
    int dim = 0;
    using fields = Fields<&Concat::dim>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

Tensor reshape(Tensor const& x, Shape shape);
/// Permutes all dims.
Tensor transpose(Tensor const& x, std::vector<int> order);
/// Swaps the last two dims.
Tensor transpose(Tensor const& x);
Tensor slice(Tensor const& x, int dim, std::int64_t start, std::int64_t length);
Tensor pad(Tensor const& x, int dim, std::int64_t before, std::int64_t after);
Tensor concat(Tensors const& x, int dim);
/// Parts of the given lengths, which must add up to the dim.
Tensors split(Tensor const& x, int dim, std::vector<std::int64_t> const& lengths);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/view-inl.hpp"
#endif
