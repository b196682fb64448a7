#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/view.hpp"

#include <limits>

namespace plait {
namespace detail {

/// 1 where a target is ignored: u8, the targets' shape.
inline Tensor ignored(Tensor const& targets) { return less(targets, full({}, 0, targets.dtype())); }
/// 1 at each target's class: u8[..., vocab].
inline Tensor at_target(Tensor const& logits, Tensor const& targets) {
    auto classes = iota(logits.shape(), -1, targets.dtype());
    return equal(classes, expand(targets, {-1}, classes));
}

/// -inf for the logits of padding, by a row that every token adds: an index counts in the logical vocabulary,
/// so a block of it knows its padding.
inline Tensor masked(Tensor const& logits, std::int64_t classes) {
    if (classes == 0) return logits;
    auto const t = logits.dtype();
    Shape const row{logits.size(logits.rank() - 1)};
    auto counts = less(iota(row, 0), full({}, static_cast<double>(classes), i32));
    auto lowest = full(row, -std::numeric_limits<double>::infinity(), t);
    return logits + select(counts, full(row, 0, t), lowest);
}

/// The sum over the targets that count, divided by how many they are. The count is a sum of integers, so no
/// order changes it, and dnll depends on the targets alone, not on the loss.
inline Tensor mean_of_counted(Tensor const& nll, Tensor const& targets) {
    auto counted = less(full({}, -1, targets.dtype()), targets);
    auto count = cast(sum(counted), nll.dtype());
    return sum(nll) * reciprocal(maximum(count, full({}, 1, nll.dtype())));
}

inline Cost loss_cost(Metas const& in, Metas const& out, int products) {
    return cost_of(
        in, out,
        2.0 * products * static_cast<double>(in[0].elements()) * static_cast<double>(in[1].shape[0]));
}
inline void want_chunk(std::string_view op, std::int64_t chunk) {
    check<ShapeError>(chunk >= 1, "{}: a chunk of {} tokens, want at least one", op, chunk);
}
/// Blocks of a vocabulary have fewer than `classes`, so the ops themselves cannot check this.
inline void want_classes(std::string_view op, std::int64_t classes, std::int64_t vocab) {
    check<ShapeError>(classes >= 0 && classes <= vocab, "{}: {} classes of a vocabulary of {}", op, classes,
                      vocab);
}
/// The logits in the dtype of the loss.
inline Tensor wide_logits(Tensors const& x) { return product(ProductForm::nt, widened(x[0]), widened(x[1])); }

}  // namespace detail

PLAIT_INLINE Rule CrossEntropy::rule(Metas const& in) const {
    return parse_rule(name, "... !v, ... -> ..., ...", in);
}
PLAIT_INLINE Metas CrossEntropy::infer(Metas const& in) const {
    auto r = rule(in);
    auto s = detail::wide(in[0].dtype);
    detail::want(name, in, {{"logits", detail::floating}, {"targets", {i32}}});
    return detail::outputs(r, {s, s});
}
PLAIT_INLINE Tensors CrossEntropy::define(Tensors const& x) const {
    auto logits = detail::masked(detail::widened(x[0]), classes);
    auto most = max(logits, {-1});
    auto lse = most + log(sum(exp(logits - expand(most, {-1}, logits)), {-1}));
    auto picked = apply_one(Pick{classes}, {logits, x[1]});
    return {select(detail::ignored(x[1]), full_like(lse, 0), lse - picked), lse};
}
PLAIT_INLINE Tensors CrossEntropy::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    detail::no_gradient(name, dy, {1});
    if (!dy[0]) return Tensors(2);
    return {apply_one(CrossEntropyGradient{classes}, {x[0], x[1], y[1], cast(dy[0], y[0].dtype())}),
            Tensor()};
}

PLAIT_INLINE Rule Pick::rule(Metas const& in) const {
    auto r = parse_rule(name, "... n, ... -> ...", in);
    r.exact = true;
    return r;
}
PLAIT_INLINE Metas Pick::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"x", detail::floating}, {"the index", {i32}}});
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors Pick::define(Tensors const& x) const {
    auto chosen = select(detail::at_target(x[0], x[1]), x[0], full_like(x[0], 0));
    return {cast(sum(chosen, {-1}), x[0].dtype())};
}

PLAIT_INLINE Rule CrossEntropyGradient::rule(Metas const& in) const {
    return parse_rule(name, "... v, ..., ..., ... -> ... v", in);
}
PLAIT_INLINE Metas CrossEntropyGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto s = detail::wide(in[0].dtype);
    detail::want(name, in, {{"logits", detail::floating}, {"targets", {i32}}, {"lse", {s}}, {"dnll", {s}}});
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors CrossEntropyGradient::define(Tensors const& x) const {
    auto logits = detail::masked(detail::widened(x[0]), classes);
    auto p = exp(logits - expand(x[2], {-1}, logits));
    auto dnll = select(detail::ignored(x[1]), full_like(x[3], 0), x[3]);
    auto d = (p - cast(detail::at_target(logits, x[1]), p.dtype())) * expand(dnll, {-1}, p);
    return {cast(d, x[0].dtype())};
}

PLAIT_INLINE Rule LinearCrossEntropy::rule(Metas const& in) const {
    detail::want_chunk(name, chunk);
    return detail::by_shape(parse_rule(name, "... !d, !v !d, ... -> ..., ...", in));
}
PLAIT_INLINE Metas LinearCrossEntropy::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, s = detail::wide(t);
    detail::want(name, in, {{"x", detail::floating}, {"the weight", {t}}, {"targets", {i32}}});
    return detail::outputs(r, {s, s});
}
PLAIT_INLINE Cost LinearCrossEntropy::cost(Metas const& in) const {
    return detail::loss_cost(in, infer(in), 1);
}
PLAIT_INLINE Tensors LinearCrossEntropy::define(Tensors const& x) const {
    if (blocks <= 1) return apply(CrossEntropy{classes}, {detail::wide_logits(x), x[2]});
    auto block = apply(LinearLossBlocks{chunk, classes, blocks}, x);
    auto most = max(block[0], {-1});
    auto lse = most + log(sum(exp(block[0] - expand(most, {-1}, block[0])), {-1}));
    // A maximum over one number and -inf elsewhere: no order changes it.
    return {select(detail::ignored(x[2]), full_like(lse, 0), lse - max(block[1], {-1})), lse};
}
PLAIT_INLINE Tensors LinearCrossEntropy::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    detail::no_gradient(name, dy, {1});
    if (!dy[0]) return Tensors(3);
    auto d = apply(LinearCrossEntropyGradient{chunk, classes},
                   {x[0], x[1], x[2], y[1], cast(dy[0], y[0].dtype())});
    return {d[0], d[1], Tensor()};
}

PLAIT_INLINE Rule LinearLossBlocks::rule(Metas const& in) const {
    detail::want_chunk(name, chunk);
    auto r = detail::by_shape(parse_rule(name, "... !d, b !d, ... -> ... b, ... b", in));
    // dim 0 of w is (b v), and the field says how large b is.
    auto& w = r.inputs[1][0];
    auto& b = r.factors[static_cast<std::size_t>(w.front())];
    check<ShapeError>(blocks >= 1 && b.size % blocks == 0, "{}: {} blocks of a vocabulary of {}", name,
                      blocks, b.size);
    auto const rows = b.size / blocks;
    b.size = blocks;
    w.push_back(static_cast<int>(r.factors.size()));
    r.factors.push_back({"v", rows, true});
    return r;
}
PLAIT_INLINE Metas LinearLossBlocks::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, s = detail::wide(t);
    detail::want(name, in, {{"x", detail::floating}, {"the weight", {t}}, {"targets", {i32}}});
    return detail::outputs(r, {s, s});
}
PLAIT_INLINE Cost LinearLossBlocks::cost(Metas const& in) const {
    return detail::loss_cost(in, infer(in), 1);
}
PLAIT_INLINE AnyOp LinearLossBlocks::localized(Metas const&, Metas const& out) const {
    return LinearLossBlocks{chunk, classes, out[0].shape[out[0].shape.rank() - 1]};
}
PLAIT_INLINE Tensors LinearLossBlocks::define(Tensors const& x) const {
    auto logits = detail::masked(detail::wide_logits(x), classes);
    auto const t = logits.dtype();
    auto in_blocks = [&](Tensor const& a) {
        auto shape = a.shape();
        auto const last = shape.rank() - 1;
        auto const rows = shape[last] / blocks;
        shape[last] = blocks;
        shape.push_back(rows);
        return reshape(a, shape);
    };
    // A block that is all padding must not subtract -inf from -inf.
    auto lowest =
        full({}, t == f64 ? std::numeric_limits<double>::lowest() : std::numeric_limits<float>::lowest(), t);
    auto values = in_blocks(logits);
    auto most = maximum(max(values, {-1}), lowest);
    auto lse = most + log(sum(exp(values - expand(most, {-1}, values)), {-1}));
    auto nowhere = full(logits.shape(), -std::numeric_limits<double>::infinity(), t);
    return {lse, max(in_blocks(select(detail::at_target(logits, x[2]), logits, nowhere)), {-1})};
}

PLAIT_INLINE Rule LinearCrossEntropyGradient::rule(Metas const& in) const {
    detail::want_chunk(name, chunk);
    return detail::by_shape(parse_rule(name, "... !d, v !d, ..., ..., ... -> ... !d, v !d", in));
}
PLAIT_INLINE Metas LinearCrossEntropyGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, s = detail::wide(t);
    detail::want(
        name, in,
        {{"x", detail::floating}, {"the weight", {t}}, {"targets", {i32}}, {"lse", {s}}, {"dnll", {s}}});
    return detail::outputs(r, {t, s});
}
PLAIT_INLINE Cost LinearCrossEntropyGradient::cost(Metas const& in) const {
    return detail::loss_cost(in, infer(in), 3);
}
PLAIT_INLINE Tensors LinearCrossEntropyGradient::define(Tensors const& x) const {
    auto d = apply_one(CrossEntropyGradient{classes}, {detail::wide_logits(x), x[2], x[3], x[4]});
    return {cast(product(ProductForm::nn, d, detail::widened(x[1])), x[0].dtype()),
            product(ProductForm::tn, d, detail::widened(x[0]))};
}

PLAIT_INLINE Rule LinearCrossEntropyStep::rule(Metas const& in) const {
    detail::want_chunk(name, chunk);
    return detail::by_shape(parse_rule(name, "... !d, !v !d, ..., ... -> ..., ..., ... !d, !v !d", in));
}
PLAIT_INLINE Metas LinearCrossEntropyStep::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, s = detail::wide(t);
    detail::want(name, in, {{"x", detail::floating}, {"the weight", {t}}, {"targets", {i32}}, {"dnll", {s}}});
    return detail::outputs(r, {s, s, t, s});
}
PLAIT_INLINE Cost LinearCrossEntropyStep::cost(Metas const& in) const {
    return detail::loss_cost(in, infer(in), 3);
}
PLAIT_INLINE Tensors LinearCrossEntropyStep::define(Tensors const& x) const {
    auto y = apply(LinearCrossEntropy{chunk, classes, blocks}, {x[0], x[1], x[2]});
    auto d = apply(LinearCrossEntropyGradient{chunk, classes}, {x[0], x[1], x[2], y[1], x[3]});
    return {y[0], y[1], d[0], d[1]};
}

PLAIT_INLINE Tensor cross_entropy(Tensor const& logits, Tensor const& targets, std::int64_t classes) {
    if (classes) detail::want_classes("cross_entropy", classes, logits.size(logits.rank() - 1));
    return detail::mean_of_counted(apply_one(CrossEntropy{classes}, {logits, targets}), targets);
}
PLAIT_INLINE Tensor linear_cross_entropy(Tensor const& x, Tensor const& w, Tensor const& targets,
                                         std::int64_t chunk, std::int64_t classes) {
    if (classes) detail::want_classes("linear_cross_entropy", classes, w.size(0));
    return detail::mean_of_counted(apply_one(LinearCrossEntropy{chunk, classes}, {x, w, targets}), targets);
}

}  // namespace plait
