#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/reduce.cuh"

namespace plait::cuda {

template <class P, int n>
PLAIT_DEVICE void forget(P (&packs)[n]) {
    PLAIT_UNROLL
    for (int k = 0; k < n; ++k) packs[k].forget();
}

/// Layer norm (`centred`) or RMS norm of rows, of x or of x + residual: ops/norm.hpp. Rows are held in
/// registers from their only read, by a `team`: a warp (32) for short rows, the whole block (256) for long
/// ones.
template <class T, bool centred, int team>
struct NormForward {
    static constexpr char const* name = centred ? "layer_norm" : "rms_norm";
    static constexpr int threads = 256, teams = threads / team;
    static constexpr int lanes = Pack<T>::lanes, packs = 8;
    static constexpr std::int64_t longest = static_cast<std::int64_t>(team) * packs * lanes;
    using Shared = WarpSums<team, 1>;

    T const* x;         // [rows, columns]
    T const* residual;  // like x, or null
    float const* gain;  // [columns]
    float const* bias;  // [columns]; not read by RMS norm
    T* y;               // like x
    float* mean;        // [rows]; not written by RMS norm
    float* rstd;        // [rows]
    T* sum;             // x + residual, where there is one; may be x or residual
    std::int64_t rows;
    int columns;  // at most `longest`
    float eps;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(rows, teams), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = columns % lanes == 0 && aligned(x, residual, gain, bias, y, sum);
        int lane = block.thread() % team;
        auto step = static_cast<std::int64_t>(block.blocks()) * teams;
        for (auto row = static_cast<std::int64_t>(block.index()) * teams + block.thread() / team; row < rows;
             row += step) {
            auto first = row * columns;
            Pack<T> held[packs];
            PLAIT_UNROLL
            for (int k = 0; k < packs; k += ahead) {
                load(x + first, k, lane, wide, held);
                if (residual) add_residual(first, k, lane, wide, held);
            }
            float total[1] = {0};
            PLAIT_UNROLL
            for (int k = 0; k < packs; ++k) PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) {
                float v = held[k][j];  // 0 beyond the row
                total[0] = centred ? total[0] + v : fused(v, v, total[0]);
            }
            forget(held);
            team_sum<team>(block, shared, total);
            float middle = 0;
            if constexpr (centred) {
                middle = total[0] / static_cast<float>(columns);
                total[0] = 0;
                PLAIT_UNROLL
                for (int k = 0; k < packs; ++k) {
                    int left = columns - (k * team + lane) * lanes;
                    PLAIT_UNROLL
                    for (int j = 0; j < lanes; ++j) {
                        float v = j < left ? held[k][j] - middle : 0.0f;
                        total[0] = fused(v, v, total[0]);
                    }
                }
                forget(held);
                team_sum<team>(block, shared, total);
                if (lane == 0) mean[row] = middle;
            }
            float scale = 1.0f / sqrtf(total[0] / static_cast<float>(columns) + eps);
            if (lane == 0) rstd[row] = scale;
            PLAIT_UNROLL
            for (int k = 0; k < packs; ++k) {
                int at = (k * team + lane) * lanes, left = columns - at;
                if (left <= 0) continue;
                auto g = Pack<float, lanes>::load(gain + at, left, wide);
                Pack<float, lanes> b;
                if constexpr (centred) b = Pack<float, lanes>::load(bias + at, left, wide);
                float v[lanes];
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) {
                    v[j] = (held[k][j] - middle) * scale;
                    v[j] = centred ? fused(v[j], g[j], b[j]) : v[j] * g[j];
                }
                Pack<T>(v).store(y + first + at, left, wide);
            }
        }
    }

  private:
    static constexpr int ahead = 4;  // packs of x and the residual that are on their way together

    /// Packs [from, from + ahead).
    template <int n>
    PLAIT_DEVICE void load(T const* row, int from, int lane, bool wide, Pack<T> (&to)[n]) const {
        PLAIT_UNROLL
        for (int k = from; k < from + ahead; ++k) {
            int at = (k * team + lane) * lanes, left = columns - at;
            to[k % n] = Pack<T>();
            if (left > 0) to[k % n] = Pack<T>::load(row + at, left, wide);
        }
    }
    /// Adds the residual's, rounded as they are stored.
    PLAIT_DEVICE void add_residual(std::int64_t first, int from, int lane, bool wide,
                                   Pack<T> (&to)[packs]) const {
        Pack<T> other[ahead];
        load(residual + first, from, lane, wide, other);
        PLAIT_UNROLL
        for (int k = from; k < from + ahead; ++k) {
            int at = (k * team + lane) * lanes, left = columns - at;
            if (left <= 0) continue;
            float v[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) v[j] = to[k][j] + other[k - from][j];
            to[k] = Pack<T>(v);
            to[k].store(sum + first + at, left, wide);
        }
    }
};

/// The gradient of that: dx, and for each team the sums over its rows that make dgain and dbias, which
/// `ColumnSums` adds up. A team takes `rows_per_team` rows in turn, so bits depend on the shape alone.
template <class T, bool centred, int team, int packs>
struct NormBackward {
    static constexpr char const* name = centred ? "layer_norm_gradient" : "rms_norm_gradient";
    static constexpr int threads = 256, teams = threads / team;
    static constexpr int lanes = Pack<T>::lanes, sums = centred ? 2 : 1;  // dgain, dbias
    static constexpr std::int64_t longest = static_cast<std::int64_t>(team) * packs * lanes;
    // For others ptxas sees by itself how many fit; here it would spill to fit three, or fit one.
    static constexpr int blocks_per_sm = packs * static_cast<int>(sizeof(Pack<T>)) <= 48 ? 2 : 0;
    // Whether registers hold the residual too, which else is read late. RMS norm of more would spill, as
    // ptxas then makes two blocks fit.
    static constexpr bool holds_residual = packs * static_cast<int>(sizeof(Pack<T>)) <= (centred ? 64 : 48);
    using Shared = WarpSums<team, sums>;

    T const* dy;        // [rows, columns]
    T const* x;         // like dy
    float const* gain;  // [columns]
    float const* mean;  // [rows]; not read by RMS norm
    float const* rstd;  // [rows]
    T const* residual;  // added to dx: like dy, or null
    T* dx;              // like dy; may be dy or the residual
    float* partial;     // [partials(rows), sums, columns]
    std::int64_t rows;
    std::int64_t each;  // rows_per_team(rows)
    int columns;        // at most `longest`

    static std::int64_t rows_per_team(std::int64_t rows) {
        std::int64_t most = team == warp_size ? 2048 : 1024;  // teams; enough for any GPU
        auto fair = pieces(rows, most);
        return fair < 8 ? 8 : fair;
    }
    static std::int64_t partials(std::int64_t rows) { return pieces(rows, rows_per_team(rows)); }
    std::int64_t blocks() const { return pieces(partials(rows), teams); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = columns % lanes == 0 && aligned(dy, x, gain, residual, dx, partial);
        int lane = block.thread() % team;
        auto index = static_cast<std::int64_t>(block.index()) * teams + block.thread() / team;
        if (index * each >= rows) return;  // a whole warp; a block has a row
        float added[sums][packs][lanes] = {};
        for (auto row = index * each; row < smaller(rows, (index + 1) * each); ++row) {
            auto first = row * columns;
            float middle = centred ? mean[row] : 0.0f, scale = rstd[row];
            Pack<T> up[packs], in[packs], extra[packs];
            PLAIT_UNROLL
            for (int k = 0; k < packs; ++k) {  // all on their way together
                int at = (k * team + lane) * lanes, left = columns - at;
                extra[k] = Pack<T>();
                if (left <= 0) continue;
                up[k] = Pack<T>::load(dy + first + at, left, wide);
                in[k] = Pack<T>::load(x + first + at, left, wide);
                if (holds_residual && residual) extra[k] = Pack<T>::load(residual + first + at, left, wide);
            }
            float means[sums] = {};  // of dy gain xhat, and of dy gain
            PLAIT_UNROLL
            for (int k = 0; k < packs; ++k) {
                int at = (k * team + lane) * lanes, left = columns - at;
                if (left <= 0) continue;
                auto g = Pack<float, lanes>::load(gain + at, left, wide);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) {
                    float through = up[k][j] * g[j], xhat = (in[k][j] - middle) * scale;
                    means[0] = fused(through, xhat, means[0]);
                    if constexpr (centred) means[1] += through;
                    added[0][k][j] = fused(up[k][j], xhat, added[0][k][j]);
                    if constexpr (centred) added[1][k][j] += up[k][j];
                }
            }
            forget(up), forget(in);
            team_sum<team>(block, shared, means);
            float slope = means[0] / static_cast<float>(columns), shift = 0;
            if constexpr (centred) shift = means[1] / static_cast<float>(columns);
            PLAIT_UNROLL
            for (int k = 0; k < packs; ++k) {
                int at = (k * team + lane) * lanes, left = columns - at;
                if (left <= 0) continue;
                auto g = Pack<float, lanes>::load(gain + at, left, wide);
                if (!holds_residual && residual) extra[k] = Pack<T>::load(residual + first + at, left, wide);
                float v[lanes];
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) {
                    float xhat = (in[k][j] - middle) * scale;
                    v[j] = fused(scale, fused(up[k][j], g[j], -shift) - xhat * slope, extra[k][j]);
                }
                Pack<T>(v).store(dx + first + at, left, wide);
            }
        }
        PLAIT_UNROLL
        for (int s = 0; s < sums; ++s) PLAIT_UNROLL
        for (int k = 0; k < packs; ++k) {
            int at = (k * team + lane) * lanes, left = columns - at;
            if (left > 0)
                Pack<float, lanes>(added[s][k])
                    .store(partial + (index * sums + s) * columns + at, left, wide);
        }
    }
};

/// y[column] = the sum over rows of x[rows, columns], in an order of its own; with `accumulate` added to y.
/// Columns behind the first `columns` may go to a second output.
struct ColumnSums {
    static constexpr char const* name = "column_sums";
    static constexpr int threads = 512, warps = threads / warp_size;
    struct Shared {
        float at[warps][warp_size];
    };

    float const* x;  // rows of `columns`, or twice as many, each `stride` after the one before it
    float* y;        // [columns]
    std::int64_t rows, stride;
    int columns;
    bool accumulate;
    float* second = nullptr;  // [columns]
    bool accumulate_second = false;

    std::int64_t blocks() const { return pieces(all(), warp_size); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        int lane = block.thread() % warp_size, warp = block.thread() / warp_size;
        auto column = static_cast<std::int64_t>(block.index()) * warp_size + lane;
        float total = 0;
        if (column < all()) {
            PLAIT_UNROLL_BY(8)
            for (std::int64_t r = warp; r < rows; r += warps) total += x[r * stride + column];
        }
        shared.at[warp][lane] = total;
        block.barrier();
        if (warp != 0 || column >= all()) return;
        PLAIT_UNROLL
        for (int w = 1; w < warps; ++w) total += shared.at[w][lane];
        bool first = column < columns, add = first ? accumulate : accumulate_second;
        float* to = first ? y + column : second + (column - columns);
        *to = add ? *to + total : total;
    }

  private:
    PLAIT_BOTH std::int64_t all() const { return static_cast<std::int64_t>(columns) * (second ? 2 : 1); }
};

}  // namespace plait::cuda
