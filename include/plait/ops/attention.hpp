#pragma once

#include "plait/tensor.hpp"

namespace plait {

/// Cosines and sines of rotary embedding: () -> f32[length, dim / 2, 2]; angle = position * base^(-2i / dim).
/// Su et al., "RoFormer", 2021.
struct RopeTable {
    static constexpr std::string_view name = "rope_table";
    std::int64_t length = 0, dim = 0;
    double base = 10000;
    using fields = Fields<&RopeTable::length, &RopeTable::dim, &RopeTable::base>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
};

/// The rows of that table for any positions: (positions i32[...]) -> f32[..., dim / 2, 2].
struct RopeAt {
    static constexpr std::string_view name = "rope_at";
    std::int64_t dim = 0;
    double base = 10000;
    using fields = Fields<&RopeAt::dim, &RopeAt::base>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
};

/// Rotates the pairs (i, i + dim / 2) of each head, as Hugging Face's Llama does:
/// (x[..., seq, heads, dim], table[seq, dim / 2, 2] or [..., seq, dim / 2, 2]) -> [..., seq, heads, dim].
/// `inverse` rotates back.
struct Rope {
    static constexpr std::string_view name = "rope";
    bool inverse = false;
    using fields = Fields<&Rope::inverse>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// Softmax attention: (q[batch, seq, heads, dim], k[batch, keys, kv_heads, dim], v like k) -> (out like q,
/// lse f32[batch, heads, seq], f64 for f64); heads is a multiple of kv_heads, and query head h reads kv head
/// h * kv_heads / heads. Scores are scaled by 1 / sqrt(dim). With `causal` position i reads keys up to i.
/// The score matrix is never whole in memory. Dao, "FlashAttention-2", 2023; Ainslie et al., "GQA", 2023.
struct Attention {
    static constexpr std::string_view name = "attention";
    bool causal = true;
    using fields = Fields<&Attention::causal>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// (q, k, v, out, lse, dout) -> (dq, dk, dv).
struct AttentionGradient {
    static constexpr std::string_view name = "attention_gradient";
    bool causal = true;
    using fields = Fields<&AttentionGradient::causal>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

namespace detail {
/// Each kv head as often as query heads read it: [batch, keys, kv_heads, dim] -> [batch, keys, heads, dim].
Tensor repeat_heads(Tensor const& x, std::int64_t heads);
/// The sum over the query heads of each kv head, undoing `repeat_heads`: like `to`.
Tensor sum_heads(Tensor const& x, Meta const& to);
}  // namespace detail

Tensor rope_table(std::int64_t length, std::int64_t dim, double base = 10000);
Tensor rope_at(Tensor const& positions, std::int64_t dim, double base = 10000);
Tensor rope(Tensor const& x, Tensor const& table);
Tensor attention(Tensor const& q, Tensor const& k, Tensor const& v, bool causal = true);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/attention-inl.hpp"
#endif
