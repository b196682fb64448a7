#pragma once

#include "plait/nn/cache.hpp"
#include "plait/nn/layers.hpp"
#include "plait/ops/attention.hpp"
#include "plait/ops/view.hpp"

namespace plait::nn {

/// Causal self-attention with `heads` query heads that share `kv_heads` key and value heads; dim is a
/// multiple of heads.
struct SelfAttention {
    Linear q, k, v, o;
    std::int64_t heads, kv_heads, head_dim;

    SelfAttention(std::int64_t dim, std::int64_t n_heads, std::int64_t n_kv_heads, bool bias = false,
                  Init out_init = Init::normal(0.02))
        : q(dim, checked(dim, n_heads, n_kv_heads), bias),
          k(dim, dim / n_heads * n_kv_heads, bias),
          v(dim, dim / n_heads * n_kv_heads, bias),
          o(dim, dim, bias, out_init),
          heads(n_heads),
          kv_heads(n_kv_heads),
          head_dim(dim / n_heads) {}

    /// `dim`, once the sizes go together; else UsageError.
    static std::int64_t checked(std::int64_t dim, std::int64_t heads, std::int64_t kv_heads) {
        check<UsageError>(heads > 0 && dim % heads == 0, "attention: {} heads do not divide the dim {}",
                          heads, dim);
        check<UsageError>(kv_heads > 0 && heads % kv_heads == 0,
                          "attention: {} kv heads do not divide {} heads", kv_heads, heads);
        return dim;
    }

    /// x [batch, seq, dim]; `table` from rope_table or rope_at, or empty for no rotation. With a `cache` the
    /// tokens read what it keeps of those before them, and are kept in it.
    Tensor operator()(Tensor const& x, Tensor const& table = {}, LayerCache const& cache = {}) const {
        auto part = [&](Linear const& project, std::int64_t n) {
            return reshape(project(x), Shape{x.size(0), x.size(1), n, head_dim});
        };
        auto qs = part(q, heads), ks = part(k, kv_heads), vs = part(v, kv_heads);
        if (table) qs = rope(qs, table), ks = rope(ks, table);
        return o(reshape(cache ? cache.attend(qs, ks, vs) : attention(qs, ks, vs), x.shape()));
    }

    using fields = Fields<&SelfAttention::q, &SelfAttention::k, &SelfAttention::v, &SelfAttention::o>;
};

}  // namespace plait::nn
