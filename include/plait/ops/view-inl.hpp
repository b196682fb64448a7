#pragma once

#include "plait/ops/infer.hpp"
#include "plait/ops/view.hpp"

#include <numeric>

namespace plait {
namespace detail {

/// The rule of an op that changes `dim` alone: the sizes along it are whole, other dims are shared and equal.
inline Rule along_dim(std::string_view op, Metas const& in, int dim, std::int64_t out) {
    check<ShapeError>(!in.empty(), "{}: has no inputs", op);
    want_dims(op, in, in[0].shape, {dim});
    Rule r;
    r.like.assign(in.size(), false);
    r.inputs.push_back(add_dims(r, in[0].shape));
    r.outputs = {r.inputs[0]};
    auto at = static_cast<std::size_t>(dim);
    r.factors[at].whole = true;
    for (std::size_t i = 1; i < in.size(); ++i) {
        auto const &a = in[0].shape, &b = in[i].shape;
        check<ShapeError>(a.rank() == b.rank(), "{}({}): input {} has {} dims, not {}", op, to_string(in), i,
                          b.rank(), a.rank());
        for (int d = 0; d < a.rank(); ++d)
            check<ShapeError>(d == dim || a[d] == b[d],
                              "{}({}): dim {} of input {} has size {} but dim {} of input 0 has size {}", op,
                              to_string(in), d, i, b[d], d, a[d]);
        r.inputs.push_back(r.inputs[0]);
        r.inputs[i][at] = {add_factor(r, fmt::format("in{}", i), b[dim], true)};
    }
    r.outputs[0][at] = {add_factor(r, "out", out, true)};
    return r;
}

inline int from_zero(int dim, Tensor const& x) { return dim < 0 ? dim + x.rank() : dim; }

}  // namespace detail

PLAIT_INLINE Rule Reshape::rule(Metas const& in) const {
    detail::want_inputs(name, in, 1);
    auto const& from = in[0].shape;
    check<ShapeError>(from.elements() == shape.elements(),
                      "{}({}): {} elements do not fill {}, which holds {}", name, to_string(in),
                      from.elements(), to_string(shape), shape.elements());
    Rule r;
    r.like = {false};
    r.inputs.resize(1);
    r.outputs.resize(1);
    auto &a = r.inputs[0], &b = r.outputs[0];
    a.resize(static_cast<std::size_t>(from.rank()));
    b.resize(static_cast<std::size_t>(shape.rank()));
    auto factor = [&](std::int64_t size, bool whole) {
        return detail::add_factor(r, std::to_string(r.factors.size()), size, whole);
    };
    // What is left of the current dim on either side; both sides have the same number of elements left.
    std::size_t i = 0, j = 0;
    std::int64_t left = 1, right = 1;
    bool matched = from.elements() > 0;
    while (matched) {
        while (left == 1 && i < a.size()) left = from[static_cast<int>(i++)];
        while (right == 1 && j < b.size()) right = shape[static_cast<int>(j++)];
        if (left == 1 || right == 1) break;
        auto common = std::gcd(left, right);
        if (common > 1) {
            int f = factor(common, false);
            a[i - 1].push_back(f), b[j - 1].push_back(f);
            left /= common, right /= common;
            continue;
        }
        // No common outer size: whole up to where both sides have seen the same elements.
        auto seen_left = left, seen_right = right;
        a[i - 1].push_back(factor(left, true)), b[j - 1].push_back(factor(right, true));
        while (seen_left != seen_right) {
            bool behind = seen_left < seen_right;
            auto size = behind ? from[static_cast<int>(i)] : shape[static_cast<int>(j)];
            auto& seen = behind ? seen_left : seen_right;
            auto& dim = behind ? a[i++] : b[j++];
            seen *= size;
            if (size > 1) dim.push_back(factor(size, true));
        }
        left = right = 1;
    }
    if (!matched) {
        a = detail::add_dims(r, from, true);
        b = detail::add_dims(r, shape, true);
    }
    return r;
}
PLAIT_INLINE Metas Reshape::infer(Metas const& in) const { return detail::outputs(rule(in), {in[0].dtype}); }
PLAIT_INLINE AnyOp Reshape::localized(Metas const&, Metas const& out) const { return Reshape{out[0].shape}; }
PLAIT_INLINE Tensors Reshape::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    return {dy[0] ? reshape(dy[0], x[0].shape()) : Tensor()};
}

PLAIT_INLINE Rule Transpose::rule(Metas const& in) const {
    detail::want_inputs(name, in, 1);
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    bool permutation = static_cast<int>(order.size()) == in[0].shape.rank();
    for (int d = 0; permutation && d < in[0].shape.rank(); ++d)
        permutation = sorted[static_cast<std::size_t>(d)] == d;
    check<ShapeError>(permutation, "{}({}): the order {} must name each of the {} dims once", name,
                      to_string(in), attribute_text(order), in[0].shape.rank());
    Rule r;
    r.like = {false};
    r.inputs.push_back(detail::add_dims(r, in[0].shape));
    r.outputs.emplace_back();
    for (int d : order) r.outputs[0].push_back({d});
    return r;
}
PLAIT_INLINE Metas Transpose::infer(Metas const& in) const {
    return detail::outputs(rule(in), {in[0].dtype});
}
PLAIT_INLINE Tensors Transpose::vjp(Tensors const&, Tensors const&, Tensors const& dy) const {
    if (!dy[0]) return {Tensor()};
    std::vector<int> back(order.size());
    for (std::size_t i = 0; i < order.size(); ++i)
        back[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
    return {transpose(dy[0], back)};
}

PLAIT_INLINE Rule Slice::rule(Metas const& in) const {
    detail::want_inputs(name, in, 1);
    auto r = detail::along_dim(name, in, dim, length);
    check<ShapeError>(start >= 0 && length >= 0 && start + length <= in[0].shape[dim],
                      "{}({}): elements {} to {} of dim {} lie outside its size {}", name, to_string(in),
                      start, start + length, dim, in[0].shape[dim]);
    return r;
}
PLAIT_INLINE Metas Slice::infer(Metas const& in) const { return detail::outputs(rule(in), {in[0].dtype}); }
PLAIT_INLINE Tensors Slice::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    return {dy[0] ? pad(dy[0], dim, start, x[0].size(dim) - start - length) : Tensor()};
}

PLAIT_INLINE Rule Pad::rule(Metas const& in) const {
    detail::want_inputs(name, in, 1);
    detail::want_dims(name, in, in[0].shape, {dim});
    check<ShapeError>(before >= 0 && after >= 0,
                      "{}({}): {} zeros before and {} after dim {}, want none below 0", name, to_string(in),
                      before, after, dim);
    return detail::along_dim(name, in, dim, before + in[0].shape[dim] + after);
}
PLAIT_INLINE Metas Pad::infer(Metas const& in) const { return detail::outputs(rule(in), {in[0].dtype}); }
PLAIT_INLINE Tensors Pad::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    return {dy[0] ? slice(dy[0], dim, before, x[0].size(dim)) : Tensor()};
}

PLAIT_INLINE Rule Concat::rule(Metas const& in) const {
    std::int64_t size = 0;
    for (auto const& m : in)
        if (dim >= 0 && dim < m.shape.rank()) size += m.shape[dim];
    return detail::along_dim(name, in, dim, size);
}
PLAIT_INLINE Metas Concat::infer(Metas const& in) const {
    auto r = rule(in);
    for (auto const& m : in)
        check<ShapeError>(m.dtype == in[0].dtype, "{}({}): the dtypes differ: cast to one of them", name,
                          to_string(in));
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors Concat::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0]) return Tensors(x.size());
    std::vector<std::int64_t> lengths;
    for (auto const& t : x) lengths.push_back(t.size(dim));
    return split(dy[0], dim, lengths);
}

PLAIT_INLINE Tensor reshape(Tensor const& x, Shape shape) {
    return x && x.shape() == shape ? x : apply_one(Reshape{shape}, {x});
}
PLAIT_INLINE Tensor transpose(Tensor const& x, std::vector<int> order) {
    return apply_one(Transpose{std::move(order)}, {x});
}
PLAIT_INLINE Tensor transpose(Tensor const& x) {
    check<ShapeError>(x.rank() >= 2, "transpose({}): swapping the last two dims wants two of them",
                      to_string(x.meta()));
    std::vector<int> order(static_cast<std::size_t>(x.rank()));
    std::iota(order.begin(), order.end(), 0);
    std::swap(order[order.size() - 2], order[order.size() - 1]);
    return transpose(x, order);
}
PLAIT_INLINE Tensor slice(Tensor const& x, int dim, std::int64_t start, std::int64_t length) {
    int d = detail::from_zero(dim, x);
    if (d >= 0 && d < x.rank() && start == 0 && x.size(d) == length) return x;
    return apply_one(Slice{d, start, length}, {x});
}
PLAIT_INLINE Tensor pad(Tensor const& x, int dim, std::int64_t before, std::int64_t after) {
    return apply_one(Pad{detail::from_zero(dim, x), before, after}, {x});
}
PLAIT_INLINE Tensor concat(Tensors const& x, int dim) {
    check<ShapeError>(!x.empty(), "concat: has no inputs");
    return apply_one(Concat{detail::from_zero(dim, x[0])}, x);
}
PLAIT_INLINE Tensors split(Tensor const& x, int dim, std::vector<std::int64_t> const& lengths) {
    dim = detail::ascending("split", x.shape(), {dim})[0];
    auto total = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
    check<ShapeError>(total == x.size(dim), "split({}): the lengths {} add up to {}, but dim {} has size {}",
                      to_string(x.meta()), attribute_text(lengths), total, dim, x.size(dim));
    Tensors parts;
    std::int64_t start = 0;
    for (auto n : lengths) parts.push_back(slice(x, dim, start, n)), start += n;
    return parts;
}

}  // namespace plait
