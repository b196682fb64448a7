#pragma once

#include "cuda/kernels/attention_tiles.cuh"

namespace plait::cuda {

/// delta[batch, heads, length] = the sum of out * dout over dim, a warp for each row.
template <class T>
struct AttentionDelta {
    static constexpr char const* name = "attention_delta";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = NoShared;

    AttentionShape shape;
    T const *out, *dout;
    float* delta;

    std::int64_t rows() const { return shape.batch * shape.length * shape.heads; }
    std::int64_t blocks() const {
        return smaller<std::int64_t>(pieces(rows(), threads / warp_size), 1 << 16);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        auto const& s = shape;
        bool wide = s.dim % lanes == 0 && aligned(out, dout);
        std::int64_t warps = threads / warp_size, count = s.batch * s.length * s.heads;
        for (auto row = block.index() * warps + block.thread() / warp_size; row < count;
             row += block.blocks() * warps) {
            float sum = 0;
            for (int d = block.thread() % warp_size * lanes; d < s.dim; d += warp_size * lanes) {
                auto x = Pack<T>::load(out + row * s.dim + d, s.dim - d, wide),
                     y = Pack<T>::load(dout + row * s.dim + d, s.dim - d, wide);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) sum = fused(x[j], y[j], sum);
            }
            PLAIT_UNROLL
            for (int mask = warp_size / 2; mask > 0; mask /= 2) sum += block.shuffle_xor(sum, mask);
            auto head = row % s.heads, place = row / s.heads;
            if (block.thread() % warp_size == 0)
                delta[s.row_at(place / s.length, head) + place % s.length] = sum;
        }
    }
};

/// dq, a block for 64 queries of a head. P = exp(scores - lse) is made again; dscores = P * (dP - delta).
template <class T, int columns>
struct AttentionQueryGradient {
    static constexpr char const* name = "attention_query_gradient";
    using Tiles = AttentionTiles<T, columns>;
    using Shared = typename Tiles::Shared;
    static constexpr int threads = Tiles::threads, tile = Tiles::tile, own = Tiles::own;
    static constexpr int blocks_per_sm = 2;

    AttentionShape shape;
    T const *q, *k, *v, *dout;
    float const *lse, *delta;  // [batch, heads, length]
    T* dq;

    std::int64_t blocks() const {
        return shape.batch * shape.heads * pieces(shape.length, tile) * pieces(shape.dim, columns);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        auto const& s = shape;
        bool wide = s.dim % Pack<T>::lanes == 0 && aligned(q, k, v, dout, dq);
        // The last queries have the most keys, so they go first.
        std::int64_t rest = block.index(), heads = s.batch * s.heads, parts = pieces(s.dim, columns);
        std::int64_t b = rest % heads / s.heads, head = rest % s.heads;
        rest /= heads;
        int column = static_cast<int>(rest % parts) * columns;
        auto first = (pieces(s.length, tile) - 1 - rest / parts) * tile;

        auto of_q = s.q_at(b, head), of_kv = s.kv_at(b, head / s.group());
        auto queries = HeadRows<T const>{q + of_q, s.q_row(), s.length, s.dim, wide}.from(first),
             gradients = HeadRows<T const>{dout + of_q, s.q_row(), s.length, s.dim, wide}.from(first);
        HeadRows<T const> keys{k + of_kv, s.kv_row(), s.keys, s.dim, wide},
            values{v + of_kv, s.kv_row(), s.keys, s.dim, wide};
        auto end = s.causal ? smaller(first + tile, s.keys) : s.keys;
        auto row = first + Tiles::first_row(block);
        float scale = s.scale(), shift[own], less[own], by[own];
        PLAIT_UNROLL
        for (int r = 0; r < own; ++r) {
            bool here = row + r < s.length;
            shift[r] = here ? lse[s.row_at(b, head) + row + r] : 0.0f;
            less[r] = here ? delta[s.row_at(b, head) + row + r] : 0.0f;
            by[r] = 1.0f;
        }

        typename Tiles::Sums sums;
        Tiles::clear(sums);
        for (std::int64_t j = 0; j < end; j += tile) {
            typename Tiles::Scores p, d;
            Tiles::scores(block, shared, queries, keys.from(j), p);
            Tiles::scores(block, shared, gradients, values.from(j), d);
            PLAIT_UNROLL
            for (int r = 0; r < own; ++r) PLAIT_UNROLL
            for (int c = 0; c < 4; ++c) {
                auto key = j + Tiles::first_column(block) + 16 * c;
                bool counts = key < end && row + r < s.length && (!s.causal || key <= row + r);
                d[r][c] = counts ? fast_exp(p[r][c] * scale - shift[r]) * (d[r][c] - less[r]) * scale : 0.0f;
            }
            Tiles::add(block, shared, d, keys.from(j), column, sums);
        }
        auto to = HeadRows<T>{dq + of_q, s.q_row(), s.length, s.dim, wide}.from(first);
        Tiles::write(block, sums, by, to, column);
    }
};

/// dk and dv, a block for 64 keys of a kv head: sums over its query heads and their queries, in order.
template <class T, int columns>
struct AttentionKeyGradient {
    static constexpr char const* name = "attention_key_gradient";
    using Tiles = AttentionTiles<T, columns>;
    using Shared = typename Tiles::Shared;
    static constexpr int threads = Tiles::threads, tile = Tiles::tile, own = Tiles::own;
    static constexpr int blocks_per_sm = 1;

    AttentionShape shape;
    T const *q, *k, *v, *dout;
    float const *lse, *delta;  // [batch, heads, length]
    T *dk, *dv;

    std::int64_t blocks() const {
        return shape.batch * shape.kv_heads * pieces(shape.keys, tile) * pieces(shape.dim, columns);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        auto const& s = shape;
        bool wide = s.dim % Pack<T>::lanes == 0 && aligned(q, k, v, dout, dk, dv);
        // The first keys are read by the most queries, so they go first.
        std::int64_t rest = block.index(), heads = s.batch * s.kv_heads, parts = pieces(s.dim, columns);
        std::int64_t b = rest % heads / s.kv_heads, kv_head = rest % s.kv_heads;
        rest /= heads;
        int column = static_cast<int>(rest % parts) * columns;
        auto first = rest / parts * tile, of_kv = s.kv_at(b, kv_head);

        auto keys = HeadRows<T const>{k + of_kv, s.kv_row(), s.keys, s.dim, wide}.from(first),
             values = HeadRows<T const>{v + of_kv, s.kv_row(), s.keys, s.dim, wide}.from(first);
        auto key = first + Tiles::first_row(block);
        float scale = s.scale();
        typename Tiles::Sums to_keys, to_values;
        Tiles::clear(to_keys);
        Tiles::clear(to_values);
        for (auto head = kv_head * s.group(); head < (kv_head + 1) * s.group(); ++head) {
            HeadRows<T const> queries{q + s.q_at(b, head), s.q_row(), s.length, s.dim, wide},
                gradients{dout + s.q_at(b, head), s.q_row(), s.length, s.dim, wide};
            for (auto i = s.causal ? first : 0; i < s.length; i += tile) {
                typename Tiles::Scores p, d;
                Tiles::scores(block, shared, keys, queries.from(i), p);
                PLAIT_UNROLL
                for (int c = 0; c < 4; ++c) {
                    auto query = i + Tiles::first_column(block) + 16 * c;
                    bool here = query < s.length;
                    float shift = here ? lse[s.row_at(b, head) + query] : 0.0f;
                    PLAIT_UNROLL
                    for (int r = 0; r < own; ++r) {
                        bool counts = here && key + r < s.keys && (!s.causal || key + r <= query);
                        p[r][c] = counts ? fast_exp(p[r][c] * scale - shift) : 0.0f;
                    }
                }
                Tiles::add(block, shared, p, gradients.from(i), column, to_values);
                Tiles::scores(block, shared, values, gradients.from(i), d);
                // p is still among the weights, which takes fewer registers.
                PLAIT_UNROLL
                for (int c = 0; c < 4; ++c) {
                    auto query = i + Tiles::first_column(block) + 16 * c;
                    float less = query < s.length ? delta[s.row_at(b, head) + query] : 0.0f;
                    PLAIT_UNROLL
                    for (int r = 0; r < own; ++r)
                        d[r][c] = *Tiles::weight(block, shared, r, c) * (d[r][c] - less);
                }
                Tiles::add(block, shared, d, queries.from(i), column, to_keys);
            }
        }
        float by[own], scaled[own];
        PLAIT_UNROLL
        for (int r = 0; r < own; ++r) by[r] = 1.0f, scaled[r] = scale;
        auto rows_of = [&](T* data) {
            return HeadRows<T>{data + of_kv, s.kv_row(), s.keys, s.dim, wide}.from(first);
        };
        Tiles::write(block, to_keys, scaled, rows_of(dk), column);
        Tiles::write(block, to_values, by, rows_of(dv), column);
    }
};

}  // namespace plait::cuda
