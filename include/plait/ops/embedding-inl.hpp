#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/reduce.hpp"

namespace plait {

// A block of the table gives zeros for the tokens of other blocks, so the sum over blocks is exact.
PLAIT_INLINE Rule Embedding::rule(Metas const& in) const {
    auto r = parse_rule(name, "..., v d -> ... d", in);
    r.exact = true;
    return r;
}
PLAIT_INLINE Metas Embedding::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"tokens", {i32}}, {"the table", detail::floating}});
    return detail::outputs(r, {in[1].dtype});
}
PLAIT_INLINE Tensors Embedding::define(Tensors const& x) const {
    return {product(ProductForm::nn, one_hot(x[0], x[1].size(0), x[1].dtype()), x[1])};
}
PLAIT_INLINE Tensors Embedding::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0]) return Tensors(2);
    return {Tensor(), apply_one(EmbeddingGradient{}, {x[0], dy[0], x[1]})};
}

// Rows that several blocks of tokens name are added for real: unlike the forward sum over the table, not
// exact.
PLAIT_INLINE Rule EmbeddingGradient::rule(Metas const& in) const {
    return parse_rule(name, "..., ... d, ~v d -> v d", in);
}
PLAIT_INLINE Metas EmbeddingGradient::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"tokens", {i32}}, {"dy", detail::floating}});
    return detail::outputs(r, {detail::wide(in[1].dtype)});
}
PLAIT_INLINE Tensors EmbeddingGradient::define(Tensors const& x) const {
    return {product(ProductForm::tn, one_hot(x[0], x[2].size(0), x[1].dtype()), x[1])};
}

PLAIT_INLINE Tensor embedding(Tensor const& tokens, Tensor const& table) {
    return apply_one(Embedding{}, {tokens, table});
}
PLAIT_INLINE Tensor one_hot(Tensor const& index, std::int64_t classes, DType dtype) {
    auto shape = index.shape();
    shape.push_back(classes);
    auto each = iota(shape, -1, index.dtype());
    return cast(equal(each, expand(index, {-1}, each)), dtype);
}

}  // namespace plait
