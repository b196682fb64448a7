#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/view.hpp"

namespace plait {
namespace detail {

constexpr DType sum_dtype(DType t) { return t == bf16 ? f32 : t == u8 ? i32 : t; }

inline bool listed(std::vector<int> const& dims, int d) {
    return std::find(dims.begin(), dims.end(), d) != dims.end();
}

/// `dims` of x counted from 0; all of them when empty.
inline std::vector<int> reduced(std::string_view op, Tensor const& x, std::vector<int> dims) {
    if (dims.empty())
        for (int d = 0; d < x.rank(); ++d) dims.push_back(d);
    return ascending(op, x.shape(), std::move(dims));
}

}  // namespace detail

PLAIT_INLINE std::string_view name_of(ReduceFn fn) { return fn == ReduceFn::sum ? "sum" : "max"; }

PLAIT_INLINE Rule Reduce::rule(Metas const& in) const {
    detail::want_inputs(name, in, 1);
    detail::want_dims(name, in, in[0].shape, dims);
    Rule r;
    r.like = {false};
    r.inputs.push_back(detail::add_dims(r, in[0].shape));
    r.outputs.emplace_back();
    for (int d = 0; d < in[0].shape.rank(); ++d) {
        if (!detail::listed(dims, d)) r.outputs[0].push_back({d});
    }
    bool integers = !is_floating(in[0].dtype);
    r.exact = integers || fn == ReduceFn::max;
    r.combine = fn == ReduceFn::max ? Combine::max : integers ? Combine::integer_sum : Combine::sum;
    return r;
}
PLAIT_INLINE Metas Reduce::infer(Metas const& in) const {
    auto r = rule(in);
    // Ranks combine no u8 by max.
    if (fn == ReduceFn::max)
        detail::want(detail::title(name, fn), in, {{"the input", {f32, bf16, f64, i32, i64}}});
    return detail::outputs(r, {fn == ReduceFn::sum ? detail::sum_dtype(in[0].dtype) : in[0].dtype});
}
PLAIT_INLINE Tensors Reduce::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    if (!dy[0] || !is_floating(x[0].dtype())) return {Tensor()};
    if (fn == ReduceFn::sum) return {expand(dy[0], dims, x[0])};
    auto winners = equal(x[0], expand(y[0], dims, x[0]));
    auto ties = apply_one(Reduce{ReduceFn::sum, dims}, {cast(winners, detail::wide(x[0].dtype()))});
    auto share = dy[0] / ties;
    return {select(winners, expand(share, dims, x[0]), full_like(x[0], 0))};
}

PLAIT_INLINE Rule Expand::rule(Metas const& in) const {
    detail::want_inputs(name, in, 2);
    auto const &x = in[0].shape, &to = in[1].shape;
    detail::want_dims(name, in, to, dims);
    int missing = static_cast<int>(dims.size());
    check<ShapeError>(x.rank() + missing == to.rank(),
                      "{}({}): {} dims and the {} repeated ones do not make {}", name, to_string(in),
                      x.rank(), missing, to.rank());
    Rule r;
    r.like = {false, true};
    r.outputs.push_back(detail::add_dims(r, to));
    r.inputs = {{}, r.outputs[0]};
    for (int d = 0; d < to.rank(); ++d) {
        if (detail::listed(dims, d)) continue;
        int own = static_cast<int>(r.inputs[0].size());
        check<ShapeError>(x[own] == to[d],
                          "{}({}): dim {} has size {} but dim {} of the shape to fill has size {}", name,
                          to_string(in), own, x[own], d, to[d]);
        r.inputs[0].push_back({d});
    }
    return r;
}
PLAIT_INLINE Metas Expand::infer(Metas const& in) const {
    auto r = rule(in);
    check<ShapeError>(is_floating(in[0].dtype) == is_floating(in[1].dtype),
                      "{}({}): one is floating, the other holds integers: cast one of them", name,
                      to_string(in));
    return detail::outputs(r, {in[1].dtype});
}
PLAIT_INLINE Tensors Expand::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0] || !is_floating(x[0].dtype())) return Tensors(2);
    return {dims.empty() ? cast(dy[0], x[0].dtype()) : sum(dy[0], dims), Tensor()};
}

PLAIT_INLINE Rule Softmax::rule(Metas const& in) const { return parse_rule(name, "... !n -> ... !n", in); }
PLAIT_INLINE Metas Softmax::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"x", detail::floating}});
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors Softmax::define(Tensors const& inputs) const {
    auto x = detail::widened(inputs[0]);
    auto e = exp(x - expand(max(x, {-1}), {-1}, x));
    return {cast(e / expand(sum(e, {-1}), {-1}, e), inputs[0].dtype())};
}
PLAIT_INLINE Tensors Softmax::vjp(Tensors const&, Tensors const& y, Tensors const& dy) const {
    if (!dy[0]) return {Tensor()};
    return apply(SoftmaxGradient{}, {y[0], cast(dy[0], y[0].dtype())});
}

PLAIT_INLINE Rule SoftmaxGradient::rule(Metas const& in) const {
    return parse_rule(name, "... !n, ... !n -> ... !n", in);
}
PLAIT_INLINE Metas SoftmaxGradient::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"y", detail::floating}, {"dy", {in[0].dtype}}});
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors SoftmaxGradient::define(Tensors const& x) const {
    auto y = detail::widened(x[0]), dy = detail::widened(x[1]);
    return {cast(y * (dy - expand(sum(dy * y, {-1}), {-1}, y)), x[0].dtype())};
}

PLAIT_INLINE Tensor sum(Tensor const& x, std::vector<int> dims) {
    if (x.rank() == 0) return cast(x, detail::sum_dtype(x.dtype()));
    return apply_one(Reduce{ReduceFn::sum, detail::reduced("sum", x, std::move(dims))}, {x});
}
PLAIT_INLINE Tensor mean(Tensor const& x, std::vector<int> dims) {
    auto total = sum(x, std::move(dims));
    auto count = static_cast<double>(x.shape().elements()) / static_cast<double>(total.shape().elements());
    return total * (1 / count);
}
PLAIT_INLINE Tensor max(Tensor const& x, std::vector<int> dims) {
    if (x.rank() == 0) return x;
    return apply_one(Reduce{ReduceFn::max, detail::reduced("max", x, std::move(dims))}, {x});
}
PLAIT_INLINE Tensor expand(Tensor const& x, std::vector<int> dims, Tensor const& like) {
    if (dims.empty() && x.meta() == like.meta()) return x;
    return apply_one(Expand{detail::ascending("expand", like.shape(), std::move(dims))}, {x, like});
}
PLAIT_INLINE Tensor sum_to(Tensor const& x, Shape const& to) {
    int extra = x.rank() - to.rank();
    std::vector<int> dims;
    for (int d = 0; d < x.rank(); ++d)
        if (d < extra || (to[d - extra] == 1 && x.size(d) != 1)) dims.push_back(d);
    return dims.empty() ? x : reshape(sum(x, dims), to);
}
PLAIT_INLINE Tensor softmax(Tensor const& x) { return apply_one(Softmax{}, {x}); }

}  // namespace plait
