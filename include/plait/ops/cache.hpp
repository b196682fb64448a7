#pragma once

#include "plait/tensor.hpp"

namespace plait {

/// Keeps rows of a cache: (cache[slots, length, kv_heads, dim], new[batch, n, kv_heads, dim],
/// slot i32[batch], positions i32[batch, n]) -> cache with new[b, j] as row positions[b, j] of slot[b]. A
/// negative position keeps nothing; of two that name one row the last counts. A slot or position outside the
/// cache is an error when run. The cache's dtype is its own.
struct CacheWrite {
    static constexpr std::string_view name = "cache_write";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors define(Tensors const& x) const;
};

/// Causal attention of tokens to a cache that holds their own rows already:
/// (q[batch, n, heads, dim], k[slots, length, kv_heads, dim], v like k, slot i32[batch],
/// positions i32[batch, n]) -> out like q. Query (b, j) reads rows 0 to positions[b, j] of slot[b]; at a
/// negative position it gives zeros. Heads and scale are those of Attention; k and v may be bf16 beside a
/// wider q.
struct CachedAttention {
    static constexpr std::string_view name = "cached_attention";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

Tensor cache_write(Tensor const& cache, Tensor const& fresh, Tensor const& slot, Tensor const& positions);
Tensor cached_attention(Tensor const& q, Tensor const& k, Tensor const& v, Tensor const& slot,
                        Tensor const& positions);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/cache-inl.hpp"
#endif
