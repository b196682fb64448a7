#pragma once

#include "cuda/kernels/tensor_tiles.cuh"

namespace plait::cuda {

/// dq of TensorAttention, a block for 128 queries of a head, 32 a warp. P = exp(scores - lse) is made again;
/// dscores = P * (dP - delta).
template <int width>
struct TensorQueryGradient {
    static constexpr char const* name = "tensor_attention_query_gradient";
    static constexpr int threads = 128, m = 2, own = 16 * m, queries = threads / warp_size * own;
    // Keys that come together, and those that a warp does at once.
    static constexpr int tile = width <= 64 ? 64 : 32, step = 32;
    static constexpr int blocks_per_sm = 2;
    using Lane = TensorLane<width>;
    struct Shared {
        TensorRows<queries, width> q, dout;
        TensorRows<tile, width> k[2], v[2];  // one is read, the next comes
        TwoFloats rows[queries];             // lse in units of log2, delta
        HeadTile here;
    };

    AttentionShape shape;
    Bf16 const *q, *k, *v, *dout;
    float const *lse, *delta;  // [batch, heads, length]
    Bf16* dq;

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

        int b = here.head / heads, head = here.head % heads;
        int q_row = static_cast<int>(s.heads) * s.dim, kv_row = static_cast<int>(s.kv_heads) * s.dim;
        RowCopies<threads, width> own_copies(block.thread(), s.q_at(b, head), q_row, length, s.dim, first);
        own_copies.begin(block, q, shared.q);
        own_copies.begin(block, dout, shared.dout);
        RowCopies<threads, width> copies(block.thread(),
                                         s.kv_at(b, head / (heads / static_cast<int>(s.kv_heads))), kv_row,
                                         keys, s.dim, 0);
        auto begin = [&](int stage) {
            copies.begin(block, k, shared.k[stage]);
            copies.begin(block, v, shared.v[stage]);
            commit_copies(block);
            copies.skip(tile);
        };
        commit_copies(block);
        begin(0);
        int one = first + block.thread();
        auto at = s.row_at(b, head) + one;
        // What is no query has a P of 1, and is not written.
        shared.rows[block.thread()] = {one < length ? lse[at] * log2_of_e : 0.0f,
                                       one < length ? delta[at] : 0.0f};

        Lane lane(block.thread());
        int own_row = block.thread() / warp_size * own, first_row = first + uniform(block, own_row);
        Products<m, width / 8> sums;
        clear(sums);
        float const scale = s.scale() * log2_of_e;
        // Fragments of both own sides stay in registers where they fit.
        constexpr int kept = width <= 64 ? width / 16 : 1;
        Words<4> queries_of[m][kept], gradients_of[m][kept];
        SharedAddress own_q(&shared.q.at[own_row][0]), own_dout(&shared.dout.at[own_row][0]);
        if constexpr (kept > 1) {
            wait_copies<1>(block);
            block.barrier();
            PLAIT_UNROLL
            for (int i = 0; i < m; ++i) PLAIT_UNROLL
            for (int c = 0; c < kept; ++c) {
                queries_of[i][c] = lane.load(block, own_q, 16 * i, 16 * c);
                gradients_of[i][c] = lane.load(block, own_dout, 16 * i, 16 * c);
            }
        }
        auto query = [&](int i, int column) {
            if constexpr (kept > 1) return queries_of[i][column / 16];
            else return lane.load(block, own_q, 16 * i, column);
        };
        auto gradient = [&](int i, int column) {
            if constexpr (kept > 1) return gradients_of[i][column / 16];
            else return lane.load(block, own_dout, 16 * i, column);
        };

        PLAIT_UNROLL_BY(1)
        for (int key = 0, stage = 0; key < end; key += tile, stage ^= 1) {
            wait_copies<0>(block);
            block.barrier();  // all have what came, and are done with what was before it
            if (key + tile < end) begin(stage ^ 1);
            // Keys that a row of the warp reads.
            int reads = first_row < length ? (s.causal ? smaller(first_row + own, keys) : keys) : 0;
            PLAIT_UNROLL_BY(1)
            for (int at = key; at < smaller(key + tile, reads); at += step) {
                auto of_step = [&](TensorRows<tile, width>& rows) {
                    return SharedAddress(&rows) + (at - key) * 2 * width;
                };
                Products<m, step / 8> p, d;
                clear(p);
                lane.add_scores(block, query, of_step(shared.k[stage]), p);
                if (at + step > keys || (s.causal && at + step > first_row + 1))
                    lane.keep_keys(p, first_row - at, keys - at, s.causal);
                clear(d);
                lane.add_scores(block, gradient, of_step(shared.v[stage]), d);
                PLAIT_UNROLL
                for (int i = 0; i < m; ++i) PLAIT_UNROLL
                for (int half = 0; half < 2; ++half) {
                    auto [shift, less] = shared.rows[own_row + 16 * i + 8 * half + lane.row()].at;
                    PLAIT_UNROLL
                    for (int j = 0; j < step / 8; ++j) PLAIT_UNROLL
                    for (int c = 2 * half; c < 2 * half + 2; ++c)
                        d[i][j][c] = fast_exp2(fused(p[i][j][c], scale, -shift)) * (d[i][j][c] - less);
                }
                lane.add_weighted(block, d, of_step(shared.k[stage]), sums);
            }
        }
        here = shared.here;
        int thread = block.thread_anew();
        // The gradient leaves where the warp's queries were.
        Lane(thread).leave(
            sums, [&](int, int) { return s.scale(); }, shared.q, thread / warp_size * own);
        block.barrier();
        RowCopies<threads, width>(thread, s.q_at(here.head / heads, here.head % heads), q_row, length, s.dim,
                                  (tiles - 1 - here.tile) * queries)
            .write(shared.q, dq);
    }
};

/// dk and dv of TensorAttention, a block for some keys of a kv head: sums over its query heads and their
/// queries, in order. Scores are made transposed, a row for each key, so that what they become is at once a
/// factor of the sums.
template <int width>
struct TensorKeyGradient {
    static constexpr char const* name = "tensor_attention_key_gradient";
    static constexpr int threads = 128, m = width <= 64 ? 2 : 1, own = 16 * m;
    static constexpr int keys = threads / warp_size * own;
    // Queries that come together, and those that a warp does at once.
    static constexpr int tile = 64, step = width <= 64 ? 16 : 64;
    static constexpr int blocks_per_sm = 2;
    using Lane = TensorLane<width>;
    struct Shared {
        TensorRows<keys, width> k, v;
        TensorRows<tile, width> q[2], dout[2];  // one is read, the next comes
        alignas(8) float rows[2][2 * tile];     // lse, then delta
        HeadTile here;
    };

    AttentionShape shape;
    Bf16 const *q, *k, *v, *dout;
    float const *lse, *delta;  // [batch, heads, length]
    Bf16 *dk, *dv;

    std::int64_t blocks() const { return shape.batch * shape.kv_heads * pieces(shape.keys, keys); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        auto const& s = shape;
        int length = static_cast<int>(s.length), kv_heads = static_cast<int>(s.kv_heads);
        int group = static_cast<int>(s.heads) / kv_heads, rows_of_keys = static_cast<int>(s.keys);
        // The first keys are read by the most queries, so they are tile 0.
        auto here = HeadTile::of(block.index(), static_cast<int>(s.batch) * kv_heads,
                                 (rows_of_keys + keys - 1) / keys, 4 * group * s.length * s.dim);
        // Registers are few: it waits in shared memory for the end.
        if (block.thread() == 0) shared.here = here;
        int b = here.head / kv_heads, kv_head = here.head % kv_heads;
        int first = here.tile * keys, begin_query = uniform(block, s.causal ? first : 0);
        int tiles = begin_query < length ? group * ((length - begin_query + tile - 1) / tile) : 0;
        int q_row = static_cast<int>(s.heads) * s.dim, kv_row = static_cast<int>(s.kv_heads) * s.dim;
        RowCopies<threads, width> own_copies(block.thread(), s.kv_at(b, kv_head), kv_row, rows_of_keys, s.dim,
                                             first);
        own_copies.begin(block, k, shared.k);
        own_copies.begin(block, v, shared.v);

        // What comes next: of each query of a tile a thread brings lse, and another one delta.
        RowCopies<threads, width> copies(block.thread(), s.q_at(b, kv_head * group), q_row, length, s.dim,
                                         begin_query);
        int next = begin_query, one = block.thread() % tile;
        auto row = static_cast<int>(s.row_at(b, kv_head * group)) + one;
        auto begin = [&](int stage) {
            copies.begin(block, q, shared.q[stage]);
            copies.begin(block, dout, shared.dout[stage]);
            // What is no query has a P of 1, and adds zeros.
            begin_copy<4>(block, SharedAddress(&shared.rows[stage][block.thread()]),
                          (block.thread() < tile ? lse : delta) + (row + next), next + one < length);
            commit_copies(block);
            next += tile;
            copies.skip(tile);
            if (next >= length) {
                copies.skip(begin_query - next);
                copies.next_head(s.dim);
                next = begin_query, row += length;
            }
        };
        if (tiles > 0) begin(tiles % 2);
        else commit_copies(block);

        Lane lane(block.thread());
        int own_row = block.thread() / warp_size * own, first_key = first + uniform(block, own_row);
        SharedAddress own_k(&shared.k.at[own_row][0]), own_v(&shared.v.at[own_row][0]);
        // Fragments of both own sides stay in registers where they fit.
        constexpr int kept = width <= 64 ? width / 16 : 1;
        Words<4> keys_of[m][kept], values_of[m][kept];
        if constexpr (kept > 1) {
            wait_copies<0>(block);
            block.barrier();
            PLAIT_UNROLL
            for (int i = 0; i < m; ++i) PLAIT_UNROLL
            for (int c = 0; c < kept; ++c) {
                keys_of[i][c] = lane.load(block, own_k, 16 * i, 16 * c);
                values_of[i][c] = lane.load(block, own_v, 16 * i, 16 * c);
            }
        }
        auto key = [&](int i, int column) {
            if constexpr (kept > 1) return keys_of[i][column / 16];
            else return lane.load(block, own_k, 16 * i, column);
        };
        auto value = [&](int i, int column) {
            if constexpr (kept > 1) return values_of[i][column / 16];
            else return lane.load(block, own_v, 16 * i, column);
        };
        Products<m, width / 8> to_keys, to_values;
        clear(to_keys);
        clear(to_values);
        float const scale = s.scale() * log2_of_e;
        PLAIT_UNROLL_BY(1)
        for (int query = begin_query; tiles > 0; --tiles) {
            int stage = tiles % 2;
            wait_copies<0>(block);
            block.barrier();  // all have what came, and are done with what was before it
            if (tiles > 1) begin(stage ^ 1);
            PLAIT_UNROLL_BY(1)
            for (int at = query; at < query + tile; at += step) {
                // Whether the step's queries, any of them, read the warp's keys, any of them.
                if (at >= length || first_key >= rows_of_keys || (s.causal && at + step <= first_key))
                    continue;
                auto of_step = [&](TensorRows<tile, width>& rows) {
                    return SharedAddress(&rows) + (at - query) * 2 * width;
                };
                Products<m, step / 8> p, d;
                clear(p);
                lane.add_scores(block, key, of_step(shared.q[stage]), p);
                bool some_masked = s.causal && at < first_key + own - 1;
                // Products that nothing parts overlap, for which wide heads leave too few registers.
                if (kept == 1 && some_masked) lane.keep_queries(p, first_key - at);
                clear(d);
                lane.add_scores(block, value, of_step(shared.dout[stage]), d);
                if (kept > 1 && some_masked) lane.keep_queries(p, first_key - at);
                PLAIT_UNROLL
                for (int j = 0; j < step / 8; ++j) {
                    auto const* pair = shared.rows[stage] + (at - query + 8 * j + lane.column());
                    auto shift = *reinterpret_cast<TwoFloats const*>(pair),
                         less = *reinterpret_cast<TwoFloats const*>(pair + tile);
                    PLAIT_UNROLL
                    for (int i = 0; i < m; ++i) PLAIT_UNROLL
                    for (int c = 0; c < 4; ++c) {
                        p[i][j][c] = fast_exp2(fused(p[i][j][c], scale, -shift.at[c % 2] * log2_of_e));
                        d[i][j][c] = p[i][j][c] * (d[i][j][c] - less.at[c % 2]);
                    }
                }
                lane.add_weighted(block, p, of_step(shared.dout[stage]), to_values);
                lane.add_weighted(block, d, of_step(shared.q[stage]), to_keys);
            }
            query = query + tile < length ? query + tile : begin_query;
        }
        wait_copies<0>(block);
        block.barrier();  // where there was no query the keys may still come
        here = shared.here;
        // The gradients leave where the warp's keys and values were.
        lane.leave(
            to_keys, [&](int, int) { return s.scale(); }, shared.k, own_row);
        lane.leave(
            to_values, [](int, int) { return 1.0f; }, shared.v, own_row);
        block.barrier();
        RowCopies<threads, width> results(block.thread(), s.kv_at(here.head / kv_heads, here.head % kv_heads),
                                          kv_row, rows_of_keys, s.dim, here.tile * keys);
        results.write(shared.k, dk);
        results.write(shared.v, dv);
    }
};

}  // namespace plait::cuda
