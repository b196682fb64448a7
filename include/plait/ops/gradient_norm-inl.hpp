#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/view.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace plait {
namespace detail {

inline void want_bits(std::string_view op, int bits) {
    check<ShapeError>(bits >= 1 && bits <= 31, "{}: has {} bits, want 1 to 31", op, bits);
}

/// As many bits as leave room for the sum over n elements.
inline int square_bits(std::int64_t n) {
    return std::clamp(63 - static_cast<int>(std::bit_width(static_cast<std::uint64_t>(n))), 1, 31);
}

/// Whether m can be a scale: it is neither 0 nor NaN nor infinite.
inline Tensor is_scale(Tensor const& m) {
    auto zero = full_like(m, 0);
    return not_equal(select(is_finite(m), m, zero), zero);
}

/// The largest power of two that is at most m > 0: f64[] -> f64[]. Exact, denormals included.
inline Tensor power_below(Tensor const& m) {
    Tensor rest = m, power = full_like(m, 1);
    // By 2^512, 2^256, ... down to below 2, then up to at least 1; the least numbers take 2^512 twice.
    for (int k = 512; k > 0; k /= 2) {
        auto small = less(rest, full_like(m, std::ldexp(1, k)));
        rest = select(small, rest, rest * std::ldexp(1, -k));
        power = select(small, power, power * std::ldexp(1, k));
    }
    for (int k : {512, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1}) {
        auto small = less(rest, full_like(m, std::ldexp(1, 1 - k)));
        rest = select(small, rest * std::ldexp(1, k), rest);
        power = select(small, power * std::ldexp(1, -k), power);
    }
    return power;
}

/// v rounded to the nearest integer, for f64 below 2^51: no more bits are left beside 2^52.
inline Tensor to_integer(Tensor const& v) { return (v + 0x1.8p52) - 0x1.8p52; }

/// All of them in one, with no op for a single one.
inline Tensor folded(Combine how, Tensors const& x) { return x.size() == 1 ? x[0] : apply_one(Fold{how}, x); }

}  // namespace detail

PLAIT_INLINE Rule MaxAbsolute::rule(Metas const& in) const {
    detail::want_inputs(name, in, 1);
    Rule r;
    r.like = {false};
    r.inputs.push_back(detail::add_dims(r, in[0].shape));
    r.outputs.emplace_back();
    r.combine = Combine::max;
    r.exact = true;
    return r;
}
PLAIT_INLINE Metas MaxAbsolute::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"g", detail::floating}});
    return detail::outputs(r, {detail::wide(in[0].dtype)});
}
PLAIT_INLINE Tensors MaxAbsolute::define(Tensors const& x) const {
    auto g = absolute(detail::widened(x[0]));
    return {g.rank() ? max(g) : g};
}

PLAIT_INLINE Rule Squares::rule(Metas const& in) const {
    detail::want_bits(name, bits);
    detail::want_inputs(name, in, 2);
    check<ShapeError>(in[1].shape.rank() == 0, "{}({}): m is not a scalar", name, to_string(in));
    Rule r;
    r.like = {false, false};
    r.inputs = {detail::add_dims(r, in[0].shape), {}};
    r.outputs.push_back({{detail::add_factor(r, "hi_lo", 2, true)}});
    r.combine = Combine::integer_sum;
    r.exact = true;
    return r;
}
PLAIT_INLINE Metas Squares::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"g", detail::floating}, {"m", {detail::wide(in[0].dtype)}}});
    return detail::outputs(r, {i64});
}

PLAIT_INLINE Tensors Squares::define(Tensors const& x) const {
    auto m = cast(x[1], f64);
    std::vector<int> all;
    for (int d = 0; d < x[0].rank(); ++d) all.push_back(d);
    auto used = detail::is_scale(m), g = cast(x[0], f64);
    g = select(expand(used, all, full(g.shape(), 0, u8)), g, full_like(g, 0));
    auto v = square(g / detail::power_below(select(used, m, full_like(m, 1)))) * std::ldexp(1, bits - 2);
    auto hi = detail::to_integer(v), lo = detail::to_integer((v - hi) * std::ldexp(1, bits));
    auto total = [](Tensor const& t) { return reshape(t.rank() ? sum(cast(t, i64)) : cast(t, i64), {1}); };
    return {concat({total(hi), total(lo)}, 0)};
}

PLAIT_INLINE Rule NormOfSquares::rule(Metas const& in) const {
    detail::want_bits(name, bits);
    auto r = parse_rule(name, "!hi_lo, -> ", in);
    check<ShapeError>(in[0].shape[0] == 2, "{}: the squares are {}, want i64[2]", name, to_string(in[0]));
    return r;
}
PLAIT_INLINE Metas NormOfSquares::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"the squares", {i64}}, {"m", {f32, f64}}});
    return detail::outputs(r, {in[1].dtype});
}

PLAIT_INLINE Tensors NormOfSquares::define(Tensors const& x) const {
    auto m = cast(x[1], f64), used = detail::is_scale(m);
    auto word = [&](int i) { return cast(reshape(slice(x[0], 0, i, 1), {}), f64); };
    auto squares = (word(0) + word(1) * std::ldexp(1, -bits)) * std::ldexp(1, -bits);
    auto norm = sqrt(squares) * 2.0 * detail::power_below(select(used, m, full_like(m, 1)));
    return {cast(select(used, norm, m), x[1].dtype())};
}
PLAIT_INLINE Tensors NormOfSquares::vjp(Tensors const&, Tensors const&, Tensors const& dy) const {
    check<UsageError>(!dy[0], "{}: has no gradient: take sqrt(sum(square(g)))", name);
    return Tensors(2);
}

PLAIT_INLINE Rule Fold::rule(Metas const& in) const {
    auto op = detail::title(name, how);
    check<ShapeError>(!in.empty(), "{}: has no inputs", op);
    std::string spec = "...";
    for (std::size_t i = 1; i < in.size(); ++i) spec += ", ...";
    auto r = parse_rule(op, spec + " -> ...", in);
    r.combine = how;
    r.passes = true;
    return r;
}
PLAIT_INLINE Metas Fold::infer(Metas const& in) const {
    auto r = rule(in);
    std::vector<DType> any{f32, f64};
    if (how == Combine::sum) any = {f32, f64, i32, i64};
    if (how == Combine::integer_sum) any = {i32, i64};
    std::vector<detail::Want> wants(in.size(), {"x", {in[0].dtype}});
    wants[0].any = any;
    detail::want(detail::title(name, how), in, wants);
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors Fold::define(Tensors const& x) const {
    auto total = x[0];
    for (std::size_t i = 1; i < x.size(); ++i)
        total = how == Combine::max ? maximum(total, x[i]) : total + x[i];
    return {total};
}
PLAIT_INLINE Tensors Fold::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    if (!dy[0] || !is_floating(x[0].dtype())) return Tensors(x.size());
    auto d = cast(dy[0], y[0].dtype());
    if (how != Combine::max) return Tensors(x.size(), d);
    Tensors winners;
    for (auto const& one : x) winners.push_back(equal(one, y[0]));
    Tensor ties;
    for (auto const& w : winners) ties = ties ? ties + cast(w, d.dtype()) : cast(w, d.dtype());
    auto share = d / ties;
    Tensors dx;
    for (auto const& w : winners) dx.push_back(select(w, share, full_like(share, 0)));
    return dx;
}

PLAIT_INLINE Tensor gradient_norm(Tensors const& gradients) {
    check<UsageError>(!gradients.empty(), "gradient_norm: there are no gradients: give at least one");
    Tensors largest, squares;
    std::int64_t elements = 0;
    for (auto const& g : gradients) {
        largest.push_back(apply_one(MaxAbsolute{}, {g}));
        elements += g.shape().elements();
    }
    auto most = detail::folded(Combine::max, largest);
    int bits = detail::square_bits(elements);
    for (auto const& g : gradients) squares.push_back(apply_one(Squares{bits}, {g, most}));
    return apply_one(NormOfSquares{bits}, {detail::folded(Combine::integer_sum, squares), most});
}

}  // namespace plait
