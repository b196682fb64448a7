#pragma once

#include "plait/ops/attention.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/view.hpp"

#include <cmath>

namespace plait {
namespace detail {

/// [batch, seq, heads, dim] to [batch, heads, seq, dim] and back.
inline Tensor swap_heads(Tensor const& x) { return transpose(x, {0, 2, 1, 3}); }

/// q, k, v as [batch, heads, seq, dim] and the scaled, masked scores [batch, heads, seq, keys].
struct AttentionScores {
    Tensor q, k, v, scores;
    double scale;

    AttentionScores(Tensors const& x, bool causal) {
        auto heads = x[0].size(2);
        q = swap_heads(widened(x[0]));
        k = swap_heads(repeat_heads(widened(x[1]), heads));
        v = swap_heads(repeat_heads(widened(x[2]), heads));
        scale = 1 / std::sqrt(static_cast<double>(x[0].size(3)));
        scores = matmul(q, k, false, true) * scale;
        if (!causal) return;
        auto const& shape = scores.shape();
        scores = select(less(iota(shape, 2), iota(shape, 3)), full_like(scores, -1e30), scores);
    }
};

inline Cost attention_cost(Metas const& in, Metas const& out, bool causal, int products) {
    auto pairs = static_cast<double>(in[0].elements()) * static_cast<double>(in[1].shape[1]);
    return cost_of(in, out, 2 * products * pairs / (causal ? 2 : 1));
}

}  // namespace detail

PLAIT_INLINE Tensor detail::repeat_heads(Tensor const& x, std::int64_t heads) {
    auto const& s = x.shape();
    if (s[2] == heads) return x;
    auto grouped = full({s[0], s[1], s[2], heads / s[2], s[3]}, 0, x.dtype());
    return reshape(expand(x, {3}, grouped), {s[0], s[1], heads, s[3]});
}
PLAIT_INLINE Tensor detail::sum_heads(Tensor const& x, Meta const& to) {
    auto const& s = to.shape;
    auto grouped = reshape(x, {s[0], s[1], s[2], x.size(2) / s[2], s[3]});
    return cast(sum(grouped, {3}), to.dtype);
}

PLAIT_INLINE Rule RopeTable::rule(Metas const&) const {
    Rule r;
    r.outputs.push_back(detail::add_dims(r, {length, dim / 2, 2}, true));
    return r;
}
PLAIT_INLINE Metas RopeTable::infer(Metas const& in) const {
    detail::want_inputs(name, in, 0);
    check<ShapeError>(length > 0 && dim > 0 && dim % 2 == 0,
                      "{}: length {} and dim {}, want both positive and dim even", name, length, dim);
    return detail::outputs(rule(in), {f32});
}

PLAIT_INLINE Rule RopeAt::rule(Metas const& in) const {
    Rule r;
    r.inputs.push_back(detail::add_dims(r, in[0].shape));
    r.like.push_back(false);
    r.outputs.push_back(r.inputs[0]);
    for (auto const& d : detail::add_dims(r, {dim / 2, 2}, true)) r.outputs[0].push_back(d);
    return r;
}
PLAIT_INLINE Metas RopeAt::infer(Metas const& in) const {
    detail::want_inputs(name, in, 1);
    detail::want(name, in, {{"positions", {i32}}});
    check<ShapeError>(dim > 0 && dim % 2 == 0, "{}: dim {}, want a positive even one", name, dim);
    return detail::outputs(rule(in), {f32});
}

PLAIT_INLINE Rule Rope::rule(Metas const& in) const {
    bool each = in.size() == 2 && in[1].shape.rank() == in[0].shape.rank();  // a row for each token
    return parse_rule(name,
                      each ? "... s h (!t !e), ... s !e !t -> ... s h (!t !e)"
                           : "... s h (!t !e), s !e !t -> ... s h (!t !e)",
                      in);
}
PLAIT_INLINE Metas Rope::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"x", detail::floating}, {"the table", {f32, detail::wide(in[0].dtype)}}});
    check<ShapeError>(in[1].shape.back() == 2, "{}: the table is {}, want cosine and sine as its last dim",
                      name, to_string(in[1]));
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors Rope::define(Tensors const& inputs) const {
    auto x = detail::widened(inputs[0]);
    auto half = x.shape().back() / 2;
    auto part = [&](std::int64_t i) {
        auto shape = inputs[1].shape().dims(0, -2);
        shape.push_back(1), shape.push_back(half);
        return reshape(cast(slice(inputs[1], -1, i, 1), x.dtype()), shape);
    };
    auto c = part(0), s = inverse ? -part(1) : part(1);
    auto a = slice(x, -1, 0, half), b = slice(x, -1, half, half);
    return {cast(concat({a * c - b * s, b * c + a * s}, -1), inputs[0].dtype())};
}
PLAIT_INLINE Tensors Rope::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0]) return Tensors(2);
    return {apply_one(Rope{!inverse}, {dy[0], x[1]}), Tensor()};
}

PLAIT_INLINE Rule Attention::rule(Metas const& in) const {
    return parse_rule(name, "b !s (h g) !d, b !t h !d, b !t h !d -> b !s (h g) !d, b (h g) !s", in);
}
PLAIT_INLINE Metas Attention::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype;
    detail::want(name, in, {{"q", detail::floating}, {"k", {t}}, {"v", {t}}});
    return detail::outputs(r, {t, detail::wide(t)});
}
PLAIT_INLINE Cost Attention::cost(Metas const& in) const {
    return detail::attention_cost(in, infer(in), causal, 2);
}
PLAIT_INLINE Tensors Attention::define(Tensors const& x) const {
    detail::AttentionScores a(x, causal);
    auto most = max(a.scores, {3});
    auto e = exp(a.scores - expand(most, {3}, a.scores));
    auto total = sum(e, {3});
    auto out = matmul(e / expand(total, {3}, e), a.v);
    return {cast(detail::swap_heads(out), x[0].dtype()), most + log(total)};
}
PLAIT_INLINE Tensors Attention::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    detail::no_gradient(name, dy, {1});
    if (!dy[0]) return Tensors(3);
    return apply(AttentionGradient{causal}, {x[0], x[1], x[2], y[0], y[1], cast(dy[0], x[0].dtype())});
}

PLAIT_INLINE Rule AttentionGradient::rule(Metas const& in) const {
    return parse_rule(name,
                      "b !s (h g) !d, b !t h !d, b !t h !d, b !s (h g) !d, b (h g) !s, b !s (h g) !d -> "
                      "b !s (h g) !d, b !t h !d, b !t h !d",
                      in);
}
PLAIT_INLINE Metas AttentionGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype;
    detail::want(name, in,
                 {{"q", detail::floating},
                  {"k", {t}},
                  {"v", {t}},
                  {"out", {t}},
                  {"lse", {detail::wide(t)}},
                  {"dout", {t}}});
    return detail::outputs(r, {t, t, t});
}
PLAIT_INLINE Cost AttentionGradient::cost(Metas const& in) const {
    return detail::attention_cost(in, infer(in), causal, 5);
}
PLAIT_INLINE Tensors AttentionGradient::define(Tensors const& x) const {
    detail::AttentionScores a(x, causal);
    auto out = detail::swap_heads(detail::widened(x[3])), dout = detail::swap_heads(detail::widened(x[5]));
    auto p = exp(a.scores - expand(x[4], {3}, a.scores));
    auto dp = matmul(dout, a.v, false, true);
    auto ds = p * (dp - expand(sum(dout * out, {3}), {3}, dp)) * a.scale;
    auto dk = detail::swap_heads(matmul(ds, a.q, true)), dv = detail::swap_heads(matmul(p, dout, true));
    return {cast(detail::swap_heads(matmul(ds, a.k)), x[0].dtype()), detail::sum_heads(dk, x[1].meta()),
            detail::sum_heads(dv, x[2].meta())};
}

PLAIT_INLINE Tensor rope_table(std::int64_t length, std::int64_t dim, double base) {
    return apply_one(RopeTable{length, dim, base}, {});
}
PLAIT_INLINE Tensor rope_at(Tensor const& positions, std::int64_t dim, double base) {
    return apply_one(RopeAt{dim, base}, {positions});
}
PLAIT_INLINE Tensor rope(Tensor const& x, Tensor const& table) { return apply_one(Rope{}, {x, table}); }
PLAIT_INLINE Tensor attention(Tensor const& q, Tensor const& k, Tensor const& v, bool causal) {
    return apply_one(Attention{causal}, {q, k, v});
}

}  // namespace plait
