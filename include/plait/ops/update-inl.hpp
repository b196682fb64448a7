#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"

#include <cmath>

namespace plait {

namespace detail {

inline void want_key(std::string_view op, Meta const& key) {
    check<ShapeError>(key.shape == Shape{2}, "{}: the key is {}, want i32[2] (seed and step)", op,
                      to_string(key));
}

}  // namespace detail

PLAIT_INLINE Rule AdamWUpdate::rule(Metas const& in) const {
    // Between the commas of the last inputs stand scalars, which have no dims.
    auto spec = fmt::format("..., ..., ..., ..., , {}{}{} -> ..., ..., ...", stochastic ? ", !key" : "",
                            scaled ? ", " : "", guarded ? ", " : "");
    return parse_rule(name, spec, in);
}
PLAIT_INLINE Metas AdamWUpdate::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype, m = in[2].dtype, s = detail::wide(t);
    std::vector<detail::Want> wants{{"p", detail::floating}, {"g", {t, s}},      {"m", {t, s}}, {"v", {m}},
                                    {"the rate", {s}},       {"the step", {i32}}};
    if (stochastic) wants.push_back({"the key", {i32}});
    if (scaled) wants.push_back({"the scale", {s}});
    if (guarded) wants.push_back({"the guard", {u8}});
    detail::want(name, in, wants);
    if (stochastic) detail::want_key(name, in[6]);
    return detail::outputs(r, {t, m, m});
}
PLAIT_INLINE Tensors AdamWUpdate::define(Tensors const& x) const {
    auto p = detail::widened(x[0]), g = detail::widened(x[1]), m = detail::widened(x[2]),
         v = detail::widened(x[3]);
    auto const& rate = x[4];
    if (scaled) g = g * x[static_cast<std::size_t>(scale_input())];
    // In f64: 1 - beta^step cancels in f32.
    auto correction = [&](double beta) {
        return cast(1.0 - exp(std::log(beta) * cast(x[5], f64)), p.dtype());
    };
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * square(g);
    auto step = m / correction(beta1) / (sqrt(v / correction(beta2)) + eps) + decay * p;
    auto next = p - rate * step;
    if (stochastic && x[0].dtype() == bf16) next = stochastic_round(next, site, x[6]);
    Tensors out{cast(next, x[0].dtype()), cast(m, x[2].dtype()), cast(v, x[3].dtype())};
    if (!guarded) return out;
    std::vector<int> all;
    for (int d = 0; d < p.rank(); ++d) all.push_back(d);
    auto ok = expand(x.back(), all, full(p.shape(), 0, u8));
    for (std::size_t i = 0; i < 3; ++i) out[i] = select(ok, out[i], x[i ? i + 1 : 0]);
    return out;
}

PLAIT_INLINE Rule StochasticRound::rule(Metas const& in) const {
    return parse_rule(name, "..., !key -> ...", in);
}
PLAIT_INLINE Metas StochasticRound::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"x", {f32, f64}}, {"the key", {i32}}});
    detail::want_key(name, in[1]);
    return detail::outputs(r, {bf16});
}
PLAIT_INLINE Tensor stochastic_round(Tensor const& x, std::uint64_t site, Tensor const& key) {
    return x.dtype() == bf16 ? x : apply_one(StochasticRound{site}, {x, key});
}

PLAIT_INLINE Rule Commit::rule(Metas const& in) const { return parse_rule(name, "..., ..., -> ...", in); }
PLAIT_INLINE Metas Commit::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in,
                 {{"the old value", {in[0].dtype}}, {"the new value", {in[0].dtype}}, {"the guard", {u8}}});
    return detail::outputs(r, {in[0].dtype});
}

}  // namespace plait
