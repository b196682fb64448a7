#pragma once

#include "cuda/kernels/attention_tiles.cuh"

#include <cmath>

namespace plait::cuda {

/// Attention of ops/attention.hpp, a block for 64 queries of a head: no tensor cores, f32 inside. Dao,
/// "FlashAttention-2", 2023.
template <class T, int columns>
struct AttentionForward {
    static constexpr char const* name = "attention";
    using Tiles = AttentionTiles<T, columns>;
    using Shared = typename Tiles::Shared;
    static constexpr int threads = Tiles::threads, tile = Tiles::tile, own = Tiles::own;

    AttentionShape shape;
    T const *q, *k, *v;
    T* out;
    float* lse;  // [batch, heads, length]

    std::int64_t blocks() const {
        return shape.batch * shape.heads * pieces(shape.length, tile) * pieces(shape.dim, columns);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        auto const& s = shape;
        bool wide = s.dim % Pack<T>::lanes == 0 && aligned(q, k, v, out);
        // The last queries have the most keys, so they go first.
        std::int64_t rest = block.index(), heads = s.batch * s.heads, parts = pieces(s.dim, columns);
        std::int64_t b = rest % heads / s.heads, head = rest % s.heads;
        rest /= heads;
        int column = static_cast<int>(rest % parts) * columns;
        auto first = (pieces(s.length, tile) - 1 - rest / parts) * tile;

        auto of_q = s.q_at(b, head), of_kv = s.kv_at(b, head / s.group());
        auto queries = HeadRows<T const>{q + of_q, s.q_row(), s.length, s.dim, wide}.from(first);
        HeadRows<T const> keys{k + of_kv, s.kv_row(), s.keys, s.dim, wide},
            values{v + of_kv, s.kv_row(), s.keys, s.dim, wide};
        auto end = s.causal ? smaller(first + tile, s.keys) : s.keys;
        auto row = first + Tiles::first_row(block);
        float scale = s.scale();

        typename Tiles::Sums sums;
        Tiles::clear(sums);
        float most[own], total[own];  // a thread's part of the total
        PLAIT_UNROLL
        for (int r = 0; r < own; ++r) most[r] = -INFINITY, total[r] = 0;
        for (std::int64_t j = 0; j < end; j += tile) {
            typename Tiles::Scores p;
            Tiles::scores(block, shared, queries, keys.from(j), p);
            PLAIT_UNROLL
            for (int r = 0; r < own; ++r) {
                float top = most[r];
                PLAIT_UNROLL
                for (int c = 0; c < 4; ++c) {
                    auto key = j + Tiles::first_column(block) + 16 * c;
                    bool counts = key < end && (!s.causal || key <= row + r);
                    p[r][c] = counts ? p[r][c] * scale : -INFINITY;
                    top = fmaxf(top, p[r][c]);
                }
                PLAIT_UNROLL
                for (int mask = 8; mask > 0; mask /= 2) top = fmaxf(top, block.shuffle_xor(top, mask));
                float shrink = fast_exp(most[r] - top);
                most[r] = top, total[r] *= shrink;
                PLAIT_UNROLL
                for (int c = 0; c < 4; ++c) {
                    p[r][c] = fast_exp(p[r][c] - top);
                    total[r] += p[r][c];
                }
                PLAIT_UNROLL
                for (int c = 0; c < Tiles::groups; ++c) PLAIT_UNROLL
                for (int i = 0; i < 4; ++i) sums[r][c][i] *= shrink;
            }
            Tiles::add(block, shared, p, values.from(j), column, sums);
        }
        float inverse[own];
        PLAIT_UNROLL
        for (int r = 0; r < own; ++r) {
            PLAIT_UNROLL
            for (int mask = 8; mask > 0; mask /= 2) total[r] += block.shuffle_xor(total[r], mask);
            inverse[r] = 1.0f / total[r];
            if (column == 0 && Tiles::first_column(block) == 0 && row + r < s.length)
                lse[s.row_at(b, head) + row + r] = most[r] + logf(total[r]);
        }
        auto to = HeadRows<T>{out + of_q, s.q_row(), s.length, s.dim, wide}.from(first);
        Tiles::write(block, sums, inverse, to, column);
    }
};

}  // namespace plait::cuda
