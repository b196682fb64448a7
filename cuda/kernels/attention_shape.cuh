#pragma once

#include "cuda/device/block.cuh"

#include <cmath>

namespace plait::cuda {

/// Attention of dense q, out [batch, length, heads, dim] and k, v [batch, keys, kv_heads, dim], where kv head
/// h / (heads / kv_heads) is that of query head h (ops/attention.hpp).
struct AttentionShape {
    std::int64_t batch, length, keys, heads, kv_heads;
    int dim;
    bool causal;

    PLAIT_BOTH std::int64_t group() const { return heads / kv_heads; }
    PLAIT_BOTH std::int64_t q_row() const { return heads * dim; }
    PLAIT_BOTH std::int64_t kv_row() const { return kv_heads * dim; }
    /// Elements before the first row of a head.
    PLAIT_BOTH std::int64_t q_at(std::int64_t b, std::int64_t head) const {
        return (b * length * heads + head) * dim;
    }
    PLAIT_BOTH std::int64_t kv_at(std::int64_t b, std::int64_t kv_head) const {
        return (b * keys * kv_heads + kv_head) * dim;
    }
    /// The same in an f32 [batch, heads, length].
    PLAIT_BOTH std::int64_t row_at(std::int64_t b, std::int64_t head) const {
        return (b * heads + head) * length;
    }
    PLAIT_BOTH float scale() const { return 1.0f / sqrtf(static_cast<float>(dim)); }
};

}  // namespace plait::cuda
