#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/kernels/attention_shape.cuh"

namespace plait::cuda {

/// Rows of a head in memory, from some row on. Those from `rows` on count as zeros.
template <class T>
struct HeadRows {
    T* data;
    std::int64_t stride, rows;
    int dim;
    bool wide;  // every row starts at a multiple of 16 bytes

    template <int n>
    PLAIT_DEVICE Pack<std::remove_const_t<T>, n> load(int row, int column) const {
        bool here = row < rows && column < dim;
        return Pack<std::remove_const_t<T>, n>::load(here ? data + row * stride + column : data,
                                                     here ? dim - column : 0, wide);
    }
    PLAIT_DEVICE HeadRows from(std::int64_t row) const {
        // Never past the end, where there may be no memory.
        auto skip = smaller(row, rows);
        return {data + skip * stride, stride, rows - skip, dim, wide};
    }
};

/// What a block of 256 threads does with 64 rows of its own (queries, or keys) and 64 of the other side.
/// Thread (y, x) of 16 x 16 has the rows 4 y to 4 y + 3; of scores the columns x + 16 c, of sums the columns
/// 64 c + 4 x to 64 c + 4 x + 3. A head wider than `columns` is done by several blocks, a part each.
template <class T, int columns>
struct AttentionTiles {
    static constexpr int threads = 256, tile = 64, own = 4;  // rows of a thread
    static constexpr int depth = 32, padded_depth = depth + 4, padded_tile = tile + 4;
    static constexpr int groups = columns / 64, rows_at_once = 4096 / columns;
    static_assert(columns % 64 == 0 && rows_at_once * columns <= 2 * tile * padded_depth);

    struct Shared {
        // Slices of both sides for scores, or rows of the other side for sums: never at once.
        alignas(16) float operands[2 * tile * padded_depth];
        alignas(16) float weights[tile * padded_tile];
    };
    using Scores = float[own][4];
    using Sums = float[own][groups][4];

    PLAIT_DEVICE static int first_row(Block const& block) { return block.thread() / 16 * own; }
    PLAIT_DEVICE static int first_column(Block const& block) { return block.thread() % 16; }

    PLAIT_DEVICE static void clear(Sums& sums) {
        PLAIT_UNROLL
        for (int r = 0; r < own; ++r) PLAIT_UNROLL
        for (int c = 0; c < groups; ++c) PLAIT_UNROLL
        for (int i = 0; i < 4; ++i) sums[r][c][i] = 0;
    }

    /// s = products of rows of a with rows of b, over the whole head.
    PLAIT_DEVICE static void scores(Block const& block, Shared& shared, HeadRows<T const> const& a,
                                    HeadRows<T const> const& b, Scores& s) {
        PLAIT_UNROLL
        for (int r = 0; r < own; ++r) PLAIT_UNROLL
        for (int c = 0; c < 4; ++c) s[r][c] = 0;
        float *slice_a = shared.operands, *slice_b = shared.operands + tile * padded_depth;
        int row = block.thread() / 4, column = block.thread() % 4 * 8;
        for (int d = 0; d < a.dim; d += depth) {
            auto x = a.template load<8>(row, d + column), y = b.template load<8>(row, d + column);
            block.barrier();  // the slices before are read
            put_eight(slice_a + row * padded_depth + column, x);
            put_eight(slice_b + row * padded_depth + column, y);
            block.barrier();
            float const* left = slice_a + first_row(block) * padded_depth;
            float const* right = slice_b + first_column(block) * padded_depth;
            PLAIT_UNROLL_BY(1)  // more takes registers that others need
            for (int l = 0; l < depth; l += 4) {
                Four v[4];
                PLAIT_UNROLL
                for (int c = 0; c < 4; ++c) v[c] = four(right + 16 * c * padded_depth + l);
                PLAIT_UNROLL
                for (int r = 0; r < own; ++r) {
                    auto u = four(left + r * padded_depth + l);
                    PLAIT_UNROLL
                    for (int i = 0; i < 4; ++i) PLAIT_UNROLL
                    for (int c = 0; c < 4; ++c) s[r][c] = fused(u.at[i], v[c].at[i], s[r][c]);
                }
            }
        }
    }

    /// Where `add` leaves the thread's weight [r][c] until the next one.
    PLAIT_DEVICE static float* weight(Block const& block, Shared& shared, int r, int c) {
        return shared.weights + (first_row(block) + r) * padded_tile + first_column(block) + 16 * c;
    }

    /// sums += weights[own rows][other rows] * x[other rows][columns from `first` on], of `rows` other rows.
    PLAIT_DEVICE static void add(Block const& block, Shared& shared, Scores const& weights,
                                 HeadRows<T const> const& x, int first, Sums& sums) {
        constexpr int packs = columns / 8;
        block.barrier();  // the weights before are read
        PLAIT_UNROLL
        for (int r = 0; r < own; ++r) PLAIT_UNROLL
        for (int c = 0; c < 4; ++c) *weight(block, shared, r, c) = weights[r][c];
        int rows = static_cast<int>(smaller<std::int64_t>(tile, x.rows));
        for (int j = 0; j < rows; j += rows_at_once) {
            if (j > 0) block.barrier();  // the rows before are read
            PLAIT_UNROLL
            for (int i = 0; i < rows_at_once * packs; i += threads) {
                int row = (i + block.thread()) / packs, column = (i + block.thread()) % packs * 8;
                put_eight(shared.operands + row * columns + column,
                          x.template load<8>(j + row, first + column));
            }
            block.barrier();
            float const* left = shared.weights + first_row(block) * padded_tile + j;
            float const* right = shared.operands + 4 * first_column(block);
            PLAIT_UNROLL_BY(1)  // more takes registers that others need
            for (int l = 0; l < rows_at_once; l += 4) {
                Four u[own];
                PLAIT_UNROLL
                for (int r = 0; r < own; ++r) u[r] = four(left + r * padded_tile + l);
                PLAIT_UNROLL
                for (int i = 0; i < 4; ++i) PLAIT_UNROLL
                for (int c = 0; c < groups; ++c) {
                    auto v = four(right + (l + i) * columns + 64 * c);
                    PLAIT_UNROLL
                    for (int r = 0; r < own; ++r) PLAIT_UNROLL
                    for (int k = 0; k < 4; ++k) sums[r][c][k] = fused(u[r].at[i], v.at[k], sums[r][c][k]);
                }
            }
        }
    }

    /// Row r of the sums times by[r], to columns from `first` on.
    PLAIT_DEVICE static void write(Block const& block, Sums const& sums, float const (&by)[own],
                                   HeadRows<T> const& y, int first) {
        PLAIT_UNROLL
        for (int r = 0; r < own; ++r) PLAIT_UNROLL
        for (int c = 0; c < groups; ++c) {
            int row = first_row(block) + r, column = first + 64 * c + 4 * first_column(block);
            float v[4];
            PLAIT_UNROLL
            for (int k = 0; k < 4; ++k) v[k] = sums[r][c][k] * by[r];
            if (row < y.rows && column < y.dim)
                Pack<T, 4>(v).store(y.data + row * y.stride + column, y.dim - column, y.wide);
        }
    }

  private:
    /// One access of 16 bytes; those of device/block.cuh are of global memory.
    struct alignas(16) Four {
        float at[4];
    };
    PLAIT_DEVICE static Four four(float const* from) { return *reinterpret_cast<Four const*>(from); }
    PLAIT_DEVICE static void put_eight(float* to, Pack<T, 8> const& x) {
        auto* words = reinterpret_cast<Four*>(to);
        words[0] = {{x[0], x[1], x[2], x[3]}};
        words[1] = {{x[4], x[5], x[6], x[7]}};
    }
};

}  // namespace plait::cuda
