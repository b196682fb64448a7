#pragma once

#include "plait/ops/attention-inl.hpp"
#include "plait/ops/cache.hpp"
#include "plait/ops/embedding.hpp"

namespace plait {

// Which rows of the cache are written is up to the batch's numbers, so neither is split but by heads.
PLAIT_INLINE Rule CacheWrite::rule(Metas const& in) const {
    return parse_rule(name, "!c !t h d, !b !n h d, !b, !b !n -> !c !t h d", in);
}
PLAIT_INLINE Metas CacheWrite::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in,
                 {{"the cache", detail::floating},
                  {"the new rows", detail::floating},
                  {"the slot", {i32}},
                  {"the positions", {i32}}});
    return detail::outputs(r, {in[0].dtype});
}
// Written where the cache lies: the rest of it is not touched.
PLAIT_INLINE Cost CacheWrite::cost(Metas const& in) const {
    auto out = infer(in);
    auto rows = static_cast<double>(in[1].bytes());
    return {0, rows, static_cast<double>(out[0].bytes())};
}
PLAIT_INLINE Tensors CacheWrite::define(Tensors const& x) const {
    auto const& s = x[0].shape();
    auto rows = s[0] * s[1], width = s[2] * s[3], tokens = x[3].shape().elements();
    auto slot = expand(x[2], {1}, x[3]);
    auto row = slot * full({}, static_cast<double>(s[1]), i32) + x[3];
    row = reshape(select(less(x[3], full_like(x[3], 0)), full_like(x[3], -1), row), {tokens});
    // For each row of the cache 1 + the last token that it keeps, or 0.
    auto each = iota({tokens, rows}, 1);
    auto number = iota({tokens, rows}, 0) + full({}, 1, i32);
    auto kept = max(select(equal(each, expand(row, {1}, each)), number, full_like(each, 0)), {0});
    auto from =
        concat({full({1, width}, 0, x[0].dtype()), reshape(cast(x[1], x[0].dtype()), {tokens, width})}, 0);
    auto fresh = reshape(embedding(kept, from), s);
    auto any = expand(less(full_like(kept, 0), kept), {1}, full({rows, width}, 0, u8));
    return {select(reshape(any, s), fresh, x[0])};
}

PLAIT_INLINE Rule CachedAttention::rule(Metas const& in) const {
    return parse_rule(name, "b n (h g) !d, !c !t h !d, !c !t h !d, b, b n -> b n (h g) !d", in);
}
PLAIT_INLINE Metas CachedAttention::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype;
    detail::want(name, in,
                 {{"q", detail::floating},
                  {"k", {t, bf16}},
                  {"v", {in[1].dtype}},
                  {"the slot", {i32}},
                  {"the positions", {i32}}});
    return detail::outputs(r, {t});
}
PLAIT_INLINE Cost CachedAttention::cost(Metas const& in) const {
    return detail::attention_cost(in, infer(in), true, 2);
}
PLAIT_INLINE Tensors CachedAttention::define(Tensors const& x) const {
    auto const &q = x[0], &positions = x[4];
    auto const& s = x[1].shape();
    auto of_slots = [&](Tensor const& cache) {
        auto rows = embedding(x[3], reshape(detail::widened(cache), {s[0], s[1] * s[2] * s[3]}));
        return detail::swap_heads(
            detail::repeat_heads(reshape(rows, {q.size(0), s[1], s[2], s[3]}), q.size(2)));
    };
    auto scores = matmul(detail::swap_heads(detail::widened(q)), of_slots(x[1]), false, true) *
                  (1 / std::sqrt(static_cast<double>(q.size(3))));
    auto key = iota(scores.shape(), 3);
    scores = select(less(expand(positions, {1, 3}, key), key), full_like(scores, -1e30), scores);
    auto e = exp(scores - expand(max(scores, {3}), {3}, scores));
    auto out = detail::swap_heads(matmul(e / expand(sum(e, {3}), {3}, e), of_slots(x[2])));
    auto idle = expand(less(positions, full_like(positions, 0)), {2, 3}, full(out.shape(), 0, u8));
    return {cast(select(idle, full_like(out, 0), out), q.dtype())};
}

PLAIT_INLINE Tensor cache_write(Tensor const& cache, Tensor const& fresh, Tensor const& slot,
                                Tensor const& positions) {
    return apply_one(CacheWrite{}, {cache, fresh, slot, positions});
}
PLAIT_INLINE Tensor cached_attention(Tensor const& q, Tensor const& k, Tensor const& v, Tensor const& slot,
                                     Tensor const& positions) {
    return apply_one(CachedAttention{}, {q, k, v, slot, positions});
}

}  // namespace plait
