#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

namespace plait::cuda {

/// Cosines and sines of position * frequency: RopeTable and RopeAt of ops/attention.hpp. Frequencies come
/// from the host, `most` at a time, and so are those of the CPU.
struct RopeAngles {
    static constexpr char const* name = "rope_angles";
    static constexpr int threads = 256, most = 256;
    using Shared = NoShared;

    std::int32_t const* positions;  // [rows]; null: row r is at position r
    float* table;                   // [rows, half, 2]
    std::int64_t rows;
    int half, first, count;  // `frequency` is of the columns [first, first + count)
    double frequency[most];

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(rows * count, threads), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        auto step = static_cast<std::int64_t>(block.blocks()) * threads;
        for (auto i = static_cast<std::int64_t>(block.index()) * threads + block.thread(); i < rows * count;
             i += step) {
            auto row = quotient(i, count);
            int column = static_cast<int>(i - row * count);
            auto position = positions ? static_cast<std::int64_t>(positions[row]) : row;
            auto turn = cos_sin(static_cast<double>(position) * frequency[column]);
            float* to = table + (row * half + first + column) * 2;
            to[0] = static_cast<float>(turn.cos);
            to[1] = static_cast<float>(turn.sin);
        }
    }
};

/// Rotates the pairs (i, i + dim / 2) of the first `heads` heads of each token, back with `inverse`:
/// ops/attention.hpp. Tokens lie `stride` elements apart, so that queries and keys of a packed [q | k | v]
/// are turned in place by one launch.
template <class T>
struct Rope {
    static constexpr char const* name = "rope";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = NoShared;

    T const* x;          // [tokens, heads of dim and maybe more]
    float const* table;  // [table_rows, dim / 2, 2]: cosine and sine; token t takes row t % table_rows
    T* y;                // like x; may be x
    std::int64_t tokens, table_rows, x_stride, y_stride;
    int heads, dim;
    bool inverse;

    std::int64_t blocks() const {
        return smaller<std::int64_t>(pieces(tokens * pieces(dim / 2, lanes), threads), 1 << 16);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        int half = dim / 2, parts = static_cast<int>(pieces(half, lanes));
        bool wide =
            half % lanes == 0 && x_stride % lanes == 0 && y_stride % lanes == 0 && aligned(x, table, y);
        auto step = static_cast<std::int64_t>(block.blocks()) * threads;
        for (auto i = static_cast<std::int64_t>(block.index()) * threads + block.thread(); i < tokens * parts;
             i += step) {
            auto token = quotient(i, parts), row = token - quotient(token, table_rows) * table_rows;
            int at = static_cast<int>(i - token * parts) * lanes, left = half - at;
            auto turn = Pack<float, 2 * lanes>::load(table + (row * half + at) * 2, 2 * left, wide);
            for (int h = 0; h < heads; ++h) {
                T const* from = x + token * x_stride + h * dim + at;
                T* to = y + token * y_stride + h * dim + at;
                auto low = Pack<T>::load(from, left, wide), high = Pack<T>::load(from + half, left, wide);
                float p[lanes], q[lanes];
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) {
                    float c = turn[2 * j], s = inverse ? -turn[2 * j + 1] : turn[2 * j + 1];
                    p[j] = low[j] * c - high[j] * s;
                    q[j] = high[j] * c + low[j] * s;
                }
                Pack<T>(p).store(to, left, wide);
                Pack<T>(q).store(to + half, left, wide);
            }
        }
    }
};

}  // namespace plait::cuda
