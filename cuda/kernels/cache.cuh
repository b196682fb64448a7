#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

#include <cmath>

namespace plait::cuda {

/// Which rows of a cache [slots, length, ...] tokens [batch, n] name. A negative position names none; a slot
/// or position outside the cache raises *fault to 1 + the token, and names none.
struct CacheTokens {
    std::int32_t const *slot, *positions;
    std::int64_t slots, length, n;
    std::uint32_t* fault;

    /// The row, counted over all slots, or -1; its position in its slot.
    struct Row {
        std::int64_t row, position;
    };
    PLAIT_DEVICE Row of(Block const& block, std::int64_t token) const {
        std::int64_t s = slot[token / n], position = positions[token];
        if (position < 0) return {-1, -1};
        if (position < length && s >= 0 && s < slots) return {s * length + position, position};
        if (block.thread() == 0) block.atomic_max(fault, static_cast<std::uint32_t>(token + 1));
        return {-1, -1};
    }
};

/// Rows of a cache become those of tokens, a block a token: CacheWrite of ops/cache.hpp. Of two tokens that
/// name one row the last counts.
template <class From, class To>
struct CacheWriteRows {
    static constexpr char const* name = "cache_write";
    static constexpr int threads = 256, lanes = 16 / smaller<int>(sizeof(From), sizeof(To));
    struct Shared {
        std::uint32_t again;
    };

    CacheTokens tokens;
    std::int64_t count, width;  // tokens, elements of a row
    From const* fresh;          // [count, width]
    To* cache;

    std::int64_t blocks() const { return smaller<std::int64_t>(count, 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = width % lanes == 0 && aligned(fresh, cache);
        for (std::int64_t i = block.index(); i < count; i += block.blocks()) {
            if (block.thread() == 0) shared.again = 0;
            block.barrier();
            auto row = tokens.of(block, i).row;
            for (auto later = i + 1 + block.thread(); row >= 0 && later < count; later += threads)
                if (tokens.positions[later] == tokens.positions[i] &&
                    tokens.slot[later / tokens.n] == tokens.slot[i / tokens.n])
                    block.atomic_max(&shared.again, 1);
            block.barrier();
            bool write = row >= 0 && shared.again == 0;
            block.barrier();  // before the next token clears it
            for (auto d = static_cast<std::int64_t>(block.thread()) * lanes; write && d < width;
                 d += threads * lanes) {
                auto x = Pack<From, lanes>::load(fresh + i * width + d, width - d, wide);
                float v[lanes];
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) v[j] = x[j];
                Pack<To, lanes>(v).store(cache + row * width + d, width - d, wide);
            }
        }
    }
};

/// Causal attention of tokens to a cache, a block for a head of a token: CachedAttention of ops/cache.hpp.
/// 256 keys at a time; the order of sums depends on how many there are and on the head's width alone.
template <class Q, class K>
struct CacheAttention {
    static constexpr char const* name = "cached_attention";
    static constexpr int threads = 256, lanes = Pack<K>::lanes, warps = threads / warp_size;
    static constexpr int team = 8;       // threads that share a key
    static constexpr int widest = 1024;  // of a head
    struct Shared {
        float query[widest], score[threads];
        float sums[threads * lanes];
    };

    CacheTokens tokens;
    std::int64_t count;  // tokens
    int heads, kv_heads, dim;
    Q const* q;      // [count, heads, dim]
    K const *k, *v;  // [slots, length, kv_heads, dim]
    Q* out;

    std::int64_t blocks() const { return smaller<std::int64_t>(count * heads, 1 << 20); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = dim % lanes == 0 && aligned(k, v);
        for (std::int64_t i = block.index(); i < count * heads; i += block.blocks()) {
            auto [row, position] = tokens.of(block, i / heads);
            auto head = i % heads / (heads / kv_heads);
            auto stride = static_cast<std::int64_t>(kv_heads) * dim;
            auto first = ((row < 0 ? 0 : row - position) * kv_heads + head) * dim;
            attend(block, shared, i * dim, first, stride, row < 0 ? 0 : position + 1, wide);
        }
    }

  private:
    PLAIT_DEVICE void attend(Block const& block, Shared& shared, std::int64_t at, std::int64_t first,
                             std::int64_t stride, std::int64_t keys, bool wide) const {
        float scale = 1.0f / sqrtf(static_cast<float>(dim));
        for (int d = block.thread(); d < dim; d += threads) shared.query[d] = to_float(q[at + d]) * scale;
        // Sums of the weighted values: a thread has one pack of columns and every `sharers`-th key.
        int packs = static_cast<int>(pieces(dim, lanes)), sharers = threads / packs;
        int sharer = block.thread() / packs, column = block.thread() % packs * lanes;
        float sum[lanes], most = -INFINITY, total = 0;
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) sum[j] = 0;
        for (std::int64_t start = 0; start < keys; start += threads) {
            int n = static_cast<int>(smaller<std::int64_t>(threads, keys - start));
            auto from = first + start * stride;
            block.barrier();  // the query is there, the scores before are read
            dots(block, shared, from, stride, n, wide);
            block.barrier();
            float top = most;
            for (int j = block.thread() % warp_size; j < n; j += warp_size) top = fmaxf(top, shared.score[j]);
            PLAIT_UNROLL
            for (int mask = warp_size / 2; mask > 0; mask /= 2)
                top = fmaxf(top, block.shuffle_xor(top, mask));
            float shrink = fast_exp(most - top), part = 0;
            most = top;
            for (int j = block.thread() % warp_size; j < n; j += warp_size)
                part += fast_exp(shared.score[j] - most);
            PLAIT_UNROLL
            for (int mask = warp_size / 2; mask > 0; mask /= 2) part += block.shuffle_xor(part, mask);
            total = total * shrink + part;
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) sum[j] *= shrink;
            for (int key = sharer < sharers ? sharer : n; key < n; key += sharers) {
                auto x = Pack<K>::load(v + from + key * stride + column, dim - column, wide);
                float p = fast_exp(shared.score[key] - most);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) sum[j] = fused(p, x[j], sum[j]);
            }
        }
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) shared.sums[block.thread() * lanes + j] = sum[j];
        block.barrier();
        float inverse = keys > 0 ? 1.0f / total : 0.0f;
        for (int d = block.thread(); d < dim; d += threads) {
            float x = 0;
            for (int s = 0; s < sharers; ++s) x += shared.sums[s * packs * lanes + d];
            put(out + at + d, x * inverse);
        }
        block.barrier();  // before the next query and its sums
    }

    /// The scores of n keys.
    PLAIT_DEVICE void dots(Block const& block, Shared& shared, std::int64_t from, std::int64_t stride, int n,
                           bool wide) const {
        for (int start = 0; start < n; start += threads / team) {
            int key = start + block.thread() / team;
            float dot = 0;
            for (int d = block.thread() % team * lanes; key < n && d < dim; d += team * lanes) {
                auto x = Pack<K>::load(k + from + key * stride + d, dim - d, wide);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j)
                    if (d + j < dim) dot = fused(x[j], shared.query[d + j], dot);
            }
            PLAIT_UNROLL
            for (int mask = team / 2; mask > 0; mask /= 2) dot += block.shuffle_xor(dot, mask);
            if (key < n && block.thread() % team == 0) shared.score[key] = dot;
        }
    }

    PLAIT_DEVICE static void put(float* to, float x) { *to = x; }
    PLAIT_DEVICE static void put(Bf16* to, float x) {
        to->bits = static_cast<std::uint16_t>(bf16_pair(x, 0.0f));
    }
};

}  // namespace plait::cuda
