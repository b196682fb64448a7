#pragma once

#include "plait/tensor.hpp"

namespace plait {

/// Rows of a table: (tokens i32[...], table[vocab, dim]) -> [..., dim]. A token outside the table is an error
/// when run.
struct Embedding {
    static constexpr std::string_view name = "embedding";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// (tokens, dy[..., dim], ~table) -> f32[vocab, dim]: each row is the sum of its tokens' gradients, in token
/// order.
struct EmbeddingGradient {
    static constexpr std::string_view name = "embedding_gradient";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

Tensor embedding(Tensor const& tokens, Tensor const& table);
/// 1 where the class equals the index: i32[...] -> [..., classes].
Tensor one_hot(Tensor const& index, std::int64_t classes, DType dtype = DType::f32);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/embedding-inl.hpp"
#endif
