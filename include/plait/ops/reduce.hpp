#pragma once

#include "plait/tensor.hpp"

#include <vector>

namespace plait {

enum class ReduceFn : std::uint8_t { sum, max };
std::string_view name_of(ReduceFn fn);

/// Reduces the listed dims (ascending, from 0) away. Sums of bf16 are f32, sums of u8 are i32; otherwise the
/// dtype stays; max takes no u8. Blocks of a reduced dim are combined by the same function.
struct Reduce {
    static constexpr std::string_view name = "reduce";
    ReduceFn fn = ReduceFn::sum;
    std::vector<int> dims;
    using fields = Fields<&Reduce::fn, &Reduce::dims>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// Repeats x along the listed dims of `like`, which x lacks: (x, ~like) -> like's shape and dtype.
struct Expand {
    static constexpr std::string_view name = "expand";
    std::vector<int> dims;
    using fields = Fields<&Expand::dims>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// softmax over the last dim, which stays whole: [..., n] -> [..., n].
struct Softmax {
    static constexpr std::string_view name = "softmax";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// dx = y * (dy - sum(dy * y)): (y, dy) -> dx.
struct SoftmaxGradient {
    static constexpr std::string_view name = "softmax_gradient";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}, {0, 1}}; }
    Tensors define(Tensors const& x) const;
};

/// Sum over `dims` (all when empty; negative counts from the end).
Tensor sum(Tensor const& x, std::vector<int> dims = {});
Tensor mean(Tensor const& x, std::vector<int> dims = {});
Tensor max(Tensor const& x, std::vector<int> dims = {});
/// Repeats x along `dims` of `like`.
Tensor expand(Tensor const& x, std::vector<int> dims, Tensor const& like);
/// Sums x down to the shape of `to`, undoing the repetition of a broadcast.
Tensor sum_to(Tensor const& x, Shape const& to);
Tensor softmax(Tensor const& x);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/reduce-inl.hpp"
#endif
