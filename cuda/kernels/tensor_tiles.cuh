#pragma once

// What attention on tensor cores is made of: rows of heads in shared memory, products of them, and who of the
// blocks does what.

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/tensor_core.cuh"
#include "cuda/kernels/attention_shape.cuh"

namespace plait::cuda {

struct alignas(16) Eight {
    std::uint32_t pairs[4];
};
struct alignas(8) TwoFloats {
    float at[2];
};

/// n rows of a head, `width` bf16 each, with zeros behind the last row and column that it has. The eight at
/// (row, c) stands at c ^ row % 8: eight lanes that access a row, or a column of eights, find it in all
/// banks.
template <int n, int width>
struct TensorRows {
    static constexpr int eights = width / 8, row_bytes = 2 * width;
    static_assert(width % 64 == 0 && n % 16 == 0);
    alignas(128) Eight at[n][eights];

    PLAIT_DEVICE Eight& eight(int row, int c) { return at[row][c ^ row % 8]; }
};

/// A thread's share of copies between a head's rows and shared memory, for tensors that lie alike.
template <int threads, int width>
class RowCopies {
  public:
    /// Of rows from `first` on of a head that begins after so many elements and has `rows` rows.
    PLAIT_DEVICE RowCopies(int thread, std::int64_t begin, int stride, int rows, int dim, int first)
        : thread_(thread), stride_(stride / 8) {
        int row = thread / eights, c = thread % eights;
        at_ = static_cast<int>(begin / 8) + (first + row) * stride_ + c;
        left_ = 8 * c < dim ? rows - first - row : 0;
    }
    PLAIT_DEVICE void skip(int rows) { at_ += rows * stride_, left_ -= rows; }
    /// To the same row of the next head.
    PLAIT_DEVICE void next_head(int dim) { at_ += dim / 8; }

    /// Begins to copy the next n rows of a tensor; what there is none of is zeros.
    template <int n>
    PLAIT_DEVICE void begin(Block const& block, Bf16 const* tensor, TensorRows<n, width>& to) const {
        constexpr int at_once = threads / eights;
        static_assert(at_once % 8 == 0 && n % at_once == 0);
        SharedAddress place(&to.eight(thread_ / eights, thread_ % eights));
        PLAIT_UNROLL
        for (int i = 0; i < n; i += at_once)
            begin_copy<16>(block, place + i * 2 * width,
                           reinterpret_cast<Eight const*>(tensor) + (at_ + i * stride_), i < left_);
    }

    /// Writes the next n rows, as far as the head has them.
    template <int n>
    PLAIT_DEVICE void write(TensorRows<n, width>& from, Bf16* tensor) const {
        constexpr int at_once = threads / eights;
        PLAIT_UNROLL
        for (int i = 0; i < n; i += at_once) {
            auto [x, y, z, w] = from.eight(thread_ / eights + i, thread_ % eights).pairs;
            auto* to = reinterpret_cast<Eight*>(tensor) + (at_ + i * stride_);
            if (i < left_) store_words<4>(to, {x, y, z, w});
        }
    }

  private:
    static constexpr int eights = width / 8;

    int thread_;
    int at_, stride_, left_;  // in eights, of which a tensor has fewer than 2^31
};

/// What a warp makes of 16 m rows and 8 n columns. A lane has [i][j][0 .. 3]: rows 16 i + row() and 8 more,
/// columns 8 j + column() and the next one.
template <int m, int n>
using Products = float[m][n][4];

template <int m, int n>
PLAIT_DEVICE void clear(Products<m, n>& x) {
    PLAIT_UNROLL
    for (int i = 0; i < m; ++i) PLAIT_UNROLL
    for (int j = 0; j < n; ++j) PLAIT_UNROLL
    for (int k = 0; k < 4; ++k) x[i][j][k] = 0;
}

/// A lane among rows of this width.
template <int width>
class TensorLane {
  public:
    PLAIT_DEVICE explicit TensorLane(int thread) : thread_(thread) {
        int in_piece = thread % 8, low = thread / 8 % 2, high = thread / 16 % 2;
        down_first_ = (in_piece + 8 * low) * row_bytes + (high ^ in_piece) * 16;
        right_first_ = (in_piece + 8 * high) * row_bytes + (low ^ in_piece) * 16;
    }

    PLAIT_DEVICE int row() const { return thread_ % warp_size / 4; }
    PLAIT_DEVICE int column() const { return thread_ % 4 * 2; }

    /// The pieces of 16 rows and columns, which say where they begin: upper left, lower left, upper right,
    /// lower right, as a left factor has them.
    PLAIT_DEVICE Words<4> load(Block const& block, SharedAddress rows, int row, int column) const {
        return load_pieces(block, place(rows + down_first_, row, column));
    }
    /// The same, each piece transposed: two by two as right factors have them, whose columns are columns of
    /// rows.
    PLAIT_DEVICE Words<4> load_transposed(Block const& block, SharedAddress rows, int row, int column) const {
        return load_transposed_pieces(block, place(rows + down_first_, row, column));
    }
    /// Upper left, upper right, lower left, lower right: two by two as right factors have them, whose columns
    /// are rows.
    PLAIT_DEVICE Words<4> load_rows(Block const& block, SharedAddress rows, int row, int column) const {
        return load_pieces(block, place(rows + right_first_, row, column));
    }

    /// s += left right^T over the whole width: left(i, column) gives pieces of 16 columns of its rows from 16
    /// i on; `right` is 8 n rows.
    template <int m, int n, class Left>
    PLAIT_DEVICE void add_scores(Block const& block, Left const& left, SharedAddress right,
                                 Products<m, n>& s) const {
        PLAIT_UNROLL
        for (int column = 0; column < width; column += 16) {
            Words<4> x[m];
            PLAIT_UNROLL
            for (int i = 0; i < m; ++i) x[i] = left(i, column);
            PLAIT_UNROLL
            for (int j = 0; j < n; j += 2) {
                auto y = load_rows(block, right, 8 * j, column);
                PLAIT_UNROLL
                for (int i = 0; i < m; ++i) {
                    mma(block, s[i][j], x[i], y.at[0], y.at[1]);
                    mma(block, s[i][j + 1], x[i], y.at[2], y.at[3]);
                }
            }
        }
    }

    /// sums += weights rows, with the weights rounded to bf16; `rows` are 8 n.
    template <int m, int n>
    PLAIT_DEVICE void add_weighted(Block const& block, Products<m, n> const& weights, SharedAddress rows,
                                   Products<m, width / 8>& sums) const {
        PLAIT_UNROLL
        for (int j = 0; j < n; j += 2) {
            Words<4> x[m];  // what a lane has of products is what it gives to the next one
            PLAIT_UNROLL
            for (int i = 0; i < m; ++i) PLAIT_UNROLL
            for (int k = 0; k < 4; ++k) {
                float const* two = &weights[i][j + k / 2][k % 2 * 2];
                x[i].at[k] = bf16_pair(two[0], two[1]);
            }
            PLAIT_UNROLL
            for (int column = 0; column < width; column += 16) {
                auto y = load_transposed(block, rows, 8 * j, column);
                PLAIT_UNROLL
                for (int i = 0; i < m; ++i) {
                    mma(block, sums[i][column / 8], x[i], y.at[0], y.at[1]);
                    mma(block, sums[i][column / 8 + 1], x[i], y.at[2], y.at[3]);
                }
            }
        }
    }

    /// Takes scores of keys behind the last one, and with `causal` of keys after their query, out of the sums
    /// to come. Keys are counted from the first column, and so is `row`, the query of the first row.
    template <int m, int n>
    PLAIT_DEVICE void keep_keys(Products<m, n>& s, int row, int keys, bool causal) const {
        PLAIT_UNROLL
        for (int i = 0; i < m; ++i) PLAIT_UNROLL
        for (int half = 0; half < 2; ++half) {
            int end = keys, after = row + 16 * i + 8 * half + this->row() + 1;
            if (causal) end = smaller(end, after);
            end -= column();
            PLAIT_UNROLL
            for (int j = 0; j < n; ++j) PLAIT_UNROLL
            for (int k = 0; k < 2; ++k)
                if (8 * j + k >= end) s[i][j][2 * half + k] = -INFINITY;
        }
    }
    /// The same of transposed scores, a row for each key, of queries before their key. `key`, that of the
    /// first row, is counted from the query of the first column.
    template <int m, int n>
    PLAIT_DEVICE void keep_queries(Products<m, n>& s, int key) const {
        PLAIT_UNROLL
        for (int i = 0; i < m; ++i) PLAIT_UNROLL
        for (int half = 0; half < 2; ++half) {
            int begin = key + 16 * i + 8 * half + row() - column();
            PLAIT_UNROLL
            for (int j = 0; j < n; ++j) PLAIT_UNROLL
            for (int k = 0; k < 2; ++k)
                if (8 * j + k < begin) s[i][j][2 * half + k] = -INFINITY;
        }
    }

    /// Leaves sums times by(i, half) of their row in rows from `first` on.
    template <int m, int n, class By>
    PLAIT_DEVICE void leave(Products<m, width / 8> const& sums, By const& by, TensorRows<n, width>& rows,
                            int first) const {
        PLAIT_UNROLL
        for (int i = 0; i < m; ++i) PLAIT_UNROLL
        for (int half = 0; half < 2; ++half) PLAIT_UNROLL
        for (int j = 0; j < width / 8; ++j)
            rows.eight(first + 16 * i + 8 * half + row(), j).pairs[column() / 2] =
                bf16_pair(sums[i][j][2 * half] * by(i, half), sums[i][j][2 * half + 1] * by(i, half));
    }

  private:
    static constexpr int row_bytes = 2 * width;
    /// From where the lane's row of the first pieces is. Rows begin at multiples of 128, so that the place of
    /// an eight among the first eight of its row is three bits of the address.
    PLAIT_DEVICE static SharedAddress place(SharedAddress lane, int row, int column) {
        return (lane ^ column / 16 % 4 * 32) + (row * row_bytes + column / 64 * 128);
    }

    int thread_;
    // Where a lane's row of pieces is, by whether the second piece is below the first or beside it.
    int down_first_, right_first_;
};

/// x, which is the same in all lanes of the warp: told so, ptxas keeps what is made of it out of the lanes'
/// registers, and these are what the kernels here are short of.
PLAIT_DEVICE int uniform(Block const& block, int x) { return block.shuffle(x, 0); }

/// Which tile of which head a block does.
struct HeadTile {
    int head, tile;

    /// Tile 0 of each head goes first, as it has the most to do. Only so many heads are begun at a time that
    /// what the tiles of a head all read is still in the L2 cache for the next one.
    PLAIT_DEVICE static HeadTile of(int block, int heads, int tiles, std::int64_t bytes_of_head) {
        constexpr std::int64_t cached = 16 << 20;
        auto most = static_cast<int>(smaller<std::int64_t>(quotient(cached, bytes_of_head + 1) + 1, heads));
        int turn = block / (most * tiles), rest = block - turn * most * tiles;
        int here = smaller(most, heads - turn * most);
        return {turn * most + rest % here, rest / here};
    }
};

}  // namespace plait::cuda
