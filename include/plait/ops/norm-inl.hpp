#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/norm.hpp"
#include "plait/ops/reduce.hpp"

namespace plait {
namespace detail {

/// x repeated along the last dim of `like`, which x lacks.
inline Tensor over_last(Tensor const& x, Tensor const& like) { return expand(x, {-1}, like); }
inline Tensor mean_over_last(Tensor const& x) { return over_last(mean(x, {-1}), x); }

/// The input of a norm: x, or the sum of x and the residual, rounded as it is stored.
inline Tensor norm_input(Tensors const& x, bool residual) { return residual ? x[0] + x[1] : x[0]; }

/// A residual's cotangent reaches both addends.
inline Tensors norm_gradients(Tensors gradients, bool residual) {
    if (residual) gradients.insert(gradients.begin(), gradients.front());
    return gradients;
}

/// dx of a norm from g, the cotangent of xhat, less its mean where xhat is centred.
inline Tensor norm_dx(Tensor const& g, Tensor const& xhat, Tensor const& rstd, Tensor const* extra) {
    auto dx = over_last(rstd, g) * (g - xhat * mean_over_last(g * xhat));
    return extra ? dx + *extra : dx;
}

}  // namespace detail

PLAIT_INLINE Rule LayerNorm::rule(Metas const& in) const {
    return parse_rule(name,
                      residual ? "... !d, ... !d, !d, !d -> ... !d, ..., ..., ... !d"
                               : "... !d, !d, !d -> ... !d, ..., ...",
                      in);
}
PLAIT_INLINE Metas LayerNorm::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, s = detail::wide(t);
    if (residual) {
        detail::want(
            name, in,
            {{"x", detail::floating}, {"the residual", {t}}, {"gain", {t, f32}}, {"bias", {t, f32}}});
        return detail::outputs(r, {t, s, s, t});
    }
    detail::want(name, in, {{"x", detail::floating}, {"gain", {t, f32}}, {"bias", {t, f32}}});
    return detail::outputs(r, {t, s, s});
}
PLAIT_INLINE Tensors LayerNorm::define(Tensors const& inputs) const {
    auto sum = detail::norm_input(inputs, residual);
    auto const &gain = inputs[inputs.size() - 2], &bias = inputs.back();
    auto x = detail::widened(sum);
    auto mean = plait::mean(x, {-1});
    auto centred = x - detail::over_last(mean, x);
    auto rstd = rsqrt(plait::mean(square(centred), {-1}) + eps);
    auto y = centred * detail::over_last(rstd, x) * gain + bias;
    Tensors out{cast(y, sum.dtype()), mean, rstd};
    if (residual) out.push_back(sum);
    return out;
}
PLAIT_INLINE Tensors LayerNorm::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    detail::no_gradient(name, dy, {1, 2});
    auto dsum = residual ? dy[3] : Tensor();
    if (!dy[0]) return detail::norm_gradients({dsum, Tensor(), Tensor()}, residual);
    auto const& sum = residual ? y[3] : x[0];
    Tensors in{cast(dy[0], sum.dtype()), sum, x[x.size() - 2], y[1], y[2]};
    if (dsum) in.push_back(cast(dsum, sum.dtype()));
    return detail::norm_gradients(apply(LayerNormGradient{static_cast<bool>(dsum)}, in), residual);
}

PLAIT_INLINE Rule LayerNormGradient::rule(Metas const& in) const {
    return parse_rule(name,
                      residual ? "... !d, ... !d, !d, ..., ..., ... !d -> ... !d, !d, !d"
                               : "... !d, ... !d, !d, ..., ... -> ... !d, !d, !d",
                      in);
}
PLAIT_INLINE Metas LayerNormGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, s = detail::wide(t);
    std::vector<detail::Want> wants{
        {"dy", detail::floating}, {"x", {t}}, {"gain", {t, f32}}, {"mean", {s}}, {"rstd", {s}}};
    if (residual) wants.push_back({"the residual", {t}});
    detail::want(name, in, wants);
    return detail::outputs(r, {t, s, s});
}
PLAIT_INLINE Tensors LayerNormGradient::define(Tensors const& in) const {
    auto dy = detail::widened(in[0]), x = detail::widened(in[1]);
    auto const &gain = in[2], &mean = in[3], &rstd = in[4];
    auto xhat = (x - detail::over_last(mean, x)) * detail::over_last(rstd, x);
    auto g = dy * gain;
    auto dx = detail::norm_dx(g, xhat, rstd, residual ? &in[5] : nullptr) -
              detail::mean_over_last(g) * detail::over_last(rstd, x);
    return {cast(dx, in[0].dtype()), sum_to(dy * xhat, gain.shape()), sum_to(dy, gain.shape())};
}

PLAIT_INLINE Rule RmsNorm::rule(Metas const& in) const {
    return parse_rule(
        name, residual ? "... !d, ... !d, !d -> ... !d, ..., ... !d" : "... !d, !d -> ... !d, ...", in);
}
PLAIT_INLINE Metas RmsNorm::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, s = detail::wide(t);
    if (residual) {
        detail::want(name, in, {{"x", detail::floating}, {"the residual", {t}}, {"gain", {t, f32}}});
        return detail::outputs(r, {t, s, t});
    }
    detail::want(name, in, {{"x", detail::floating}, {"gain", {t, f32}}});
    return detail::outputs(r, {t, s});
}
PLAIT_INLINE Tensors RmsNorm::define(Tensors const& inputs) const {
    auto sum = detail::norm_input(inputs, residual);
    auto x = detail::widened(sum);
    auto rstd = rsqrt(mean(square(x), {-1}) + eps);
    Tensors out{cast(x * detail::over_last(rstd, x) * inputs.back(), sum.dtype()), rstd};
    if (residual) out.push_back(sum);
    return out;
}
PLAIT_INLINE Tensors RmsNorm::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    detail::no_gradient(name, dy, {1});
    auto dsum = residual ? dy[2] : Tensor();
    if (!dy[0]) return detail::norm_gradients({dsum, Tensor()}, residual);
    auto const& sum = residual ? y[2] : x[0];
    Tensors in{cast(dy[0], sum.dtype()), sum, x.back(), y[1]};
    if (dsum) in.push_back(cast(dsum, sum.dtype()));
    return detail::norm_gradients(apply(RmsNormGradient{static_cast<bool>(dsum)}, in), residual);
}

PLAIT_INLINE Rule RmsNormGradient::rule(Metas const& in) const {
    return parse_rule(
        name,
        residual ? "... !d, ... !d, !d, ..., ... !d -> ... !d, !d" : "... !d, ... !d, !d, ... -> ... !d, !d",
        in);
}
PLAIT_INLINE Metas RmsNormGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, s = detail::wide(t);
    std::vector<detail::Want> wants{{"dy", detail::floating}, {"x", {t}}, {"gain", {t, f32}}, {"rstd", {s}}};
    if (residual) wants.push_back({"the residual", {t}});
    detail::want(name, in, wants);
    return detail::outputs(r, {t, s});
}
PLAIT_INLINE Tensors RmsNormGradient::define(Tensors const& in) const {
    auto dy = detail::widened(in[0]), x = detail::widened(in[1]);
    auto const &gain = in[2], &rstd = in[3];
    auto xhat = x * detail::over_last(rstd, x);
    auto dx = detail::norm_dx(dy * gain, xhat, rstd, residual ? &in[4] : nullptr);
    return {cast(dx, in[0].dtype()), sum_to(dy * xhat, gain.shape())};
}

PLAIT_INLINE Tensor layer_norm(Tensor const& x, Tensor const& gain, Tensor const& bias, double eps) {
    return apply_one(LayerNorm{eps}, {x, gain, bias});
}
PLAIT_INLINE Tensor rms_norm(Tensor const& x, Tensor const& gain, double eps) {
    return apply_one(RmsNorm{eps}, {x, gain});
}

}  // namespace plait
