#pragma once

#include "cuda/kernels/tensor_tiles.cuh"

namespace plait::cuda {

/// Attention of ops/attention.hpp for bf16 on tensor cores, a block for 128 queries of a head, 32 a warp:
/// heads of dims that are multiples of 8, at most `width`, at multiples of 16 bytes. Dao, "FlashAttention-2",
/// 2023.
template <int width>
struct TensorAttention {
    static constexpr char const* name = "tensor_attention";
    static constexpr int threads = 128, m = 2, own = 16 * m, queries = threads / warp_size * own, tile = 64;
    static constexpr int blocks_per_sm = width <= 64 ? 3 : 2;
    using Lane = TensorLane<width>;
    struct Shared {
        TensorRows<queries, width> q;
        TensorRows<tile, width> k[2], v[2];  // one is read, the next comes
        HeadTile here;
    };

    AttentionShape shape;
    Bf16 const *q, *k, *v;
    Bf16* out;
    float* lse;  // [batch, heads, length]

    std::int64_t blocks() const { return shape.batch * shape.heads * pieces(shape.length, queries); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        auto const& s = shape;
        int length = static_cast<int>(s.length), keys = static_cast<int>(s.keys);
        int heads = static_cast<int>(s.heads), tiles = (length + queries - 1) / queries;
        auto here = HeadTile::of(block.index(), static_cast<int>(s.batch) * heads, tiles, 4 * s.keys * s.dim);
        // Registers are few: it waits in shared memory for the end.
        if (block.thread() == 0) shared.here = here;
        // The last queries have the most keys, so they are tile 0.
        int first = uniform(block, (tiles - 1 - here.tile) * queries);
        int end = s.causal ? smaller(first + queries, keys) : keys;

        int b = here.head / heads, kv_head = here.head % heads / (heads / static_cast<int>(s.kv_heads));
        int q_row = static_cast<int>(s.heads) * s.dim, kv_row = static_cast<int>(s.kv_heads) * s.dim;
        RowCopies<threads, width>(block.thread(), s.q_at(b, here.head % heads), q_row, length, s.dim, first)
            .begin(block, q, shared.q);
        RowCopies<threads, width> copies(block.thread(), s.kv_at(b, kv_head), kv_row, keys, s.dim, 0);
        auto begin = [&](int stage) {
            copies.begin(block, k, shared.k[stage]);
            copies.begin(block, v, shared.v[stage]);
            commit_copies(block);
            copies.skip(tile);
        };
        begin(0);

        Lane lane(block.thread());
        int own_row = block.thread() / warp_size * own, first_row = first + uniform(block, own_row);
        Rows rows;
        clear(rows.sums);
        float const scale = s.scale() * log2_of_e;
        PLAIT_UNROLL_BY(1)
        for (int key = 0, stage = 0; key < end; key += tile, stage ^= 1) {
            wait_copies<0>(block);
            block.barrier();  // all have what came, and are done with what was before it
            if (key + tile < end) begin(stage ^ 1);
            if (first_row < length && (!s.causal || key < first_row + own)) {
                Products<m, tile / 8> p;
                clear(p);
                SharedAddress own_q(&shared.q.at[own_row][0]);
                auto left = [&](int i, int column) { return lane.load(block, own_q, 16 * i, column); };
                lane.add_scores(block, left, SharedAddress(&shared.k[stage]), p);
                if (key + tile > keys || (s.causal && key + tile > first_row + 1))
                    lane.keep_keys(p, first_row - key, keys - key, s.causal);
                rows.soften(block, scale, p);
                lane.add_weighted(block, p, SharedAddress(&shared.v[stage]), rows.sums);
            }
        }

        here = shared.here;
        int thread = block.thread_anew();
        Lane last(thread);
        first = (tiles - 1 - here.tile) * queries, own_row = thread / warp_size * own;
        auto row = first + own_row + last.row();
        float* lse_of = lse + s.row_at(here.head / heads, here.head % heads);
        float inverse[m][2];
        PLAIT_UNROLL
        for (int i = 0; i < m; ++i) PLAIT_UNROLL
        for (int half = 0; half < 2; ++half) {
            float total = rows.total[i][half];
            total += block.shuffle_xor(total, 1);
            total += block.shuffle_xor(total, 2);
            inverse[i][half] = 1.0f / total;
            int at = row + 16 * i + 8 * half;
            if (last.column() == 0 && at < length)
                lse_of[at] = (rows.most[i][half] + log2f(total)) * (1 / log2_of_e);
        }
        // The output leaves where the warp's queries were.
        last.leave(
            rows.sums, [&](int i, int half) { return inverse[i][half]; }, shared.q, own_row);
        block.barrier();
        RowCopies<threads, width>(thread, s.q_at(here.head / heads, here.head % heads), q_row, length, s.dim,
                                  first)
            .write(shared.q, out);
    }

  private:
    /// What is known of a lane's rows so far.
    struct Rows {
        Products<m, width / 8> sums;
        // The sums are of 2^(scaled score - most), and the total is the lane's part of theirs.
        float most[m][2], total[m][2];

        PLAIT_DEVICE Rows() {
            PLAIT_UNROLL
            for (int i = 0; i < m; ++i) PLAIT_UNROLL
            for (int half = 0; half < 2; ++half) most[i][half] = -INFINITY, total[i][half] = 0;
        }

        /// Scores become their weights. `most` need not be the maximum: a row's stays until one is 2^8 times
        /// above it, which is rare after the first keys and spares the sums a product. What f32 and bf16 lose
        /// by that is nothing.
        PLAIT_DEVICE void soften(Block const& block, float scale, Products<m, tile / 8>& p) {
            constexpr float slack = 8;
            float top[m][2];
            bool more = false;
            PLAIT_UNROLL
            for (int i = 0; i < m; ++i) PLAIT_UNROLL
            for (int half = 0; half < 2; ++half) {
                float t = -INFINITY;
                PLAIT_UNROLL
                for (int j = 0; j < tile / 8; ++j)
                    t = fmaxf(t, fmaxf(p[i][j][2 * half], p[i][j][2 * half + 1]));
                t = fmaxf(t, block.shuffle_xor(t, 1));
                t = fmaxf(t, block.shuffle_xor(t, 2)) * scale;
                bool above = t > most[i][half] + slack;
                top[i][half] = above ? t : most[i][half];
                more = more || above;
            }
            if (block.any(more)) PLAIT_UNROLL
            for (int i = 0; i < m; ++i) PLAIT_UNROLL
            for (int half = 0; half < 2; ++half) {
                float shrink = fast_exp2(most[i][half] - top[i][half]);
                most[i][half] = top[i][half], total[i][half] *= shrink;
                PLAIT_UNROLL
                for (int j = 0; j < width / 8; ++j)
                    sums[i][j][2 * half] *= shrink, sums[i][j][2 * half + 1] *= shrink;
            }
            PLAIT_UNROLL
            for (int i = 0; i < m; ++i) PLAIT_UNROLL
            for (int j = 0; j < tile / 8; ++j) PLAIT_UNROLL
            for (int k = 0; k < 4; ++k) {
                p[i][j][k] = fast_exp2(fused(p[i][j][k], scale, -most[i][k / 2]));
                total[i][k / 2] += p[i][j][k];
            }
        }
    };
};

}  // namespace plait::cuda
