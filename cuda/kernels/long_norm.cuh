#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/reduce.cuh"

namespace plait::cuda {

// Norms of rows of any length, which a block reads again for each sum. Fields are those of norm.cuh.

template <class T, bool centred>
struct LongNormForward {
    static constexpr char const* name = centred ? "layer_norm" : "rms_norm";
    static constexpr int threads = 512, lanes = Pack<T>::lanes;
    using Shared = WarpSums<threads, 1>;

    T const* x;
    T const* residual;
    float const* gain;
    float const* bias;
    T* y;
    float* mean;
    float* rstd;
    T* sum;
    std::int64_t rows;
    int columns;
    float eps;

    std::int64_t blocks() const { return smaller<std::int64_t>(rows, 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = columns % lanes == 0 && aligned(x, residual, gain, bias, y, sum);
        for (std::int64_t row = block.index(); row < rows; row += block.blocks()) {
            auto first = row * columns;
            T const* held = (residual ? sum : x) + first;
            float total[1] = {0};
            for (int at = block.thread() * lanes; at < columns; at += threads * lanes) {
                auto v = Pack<T>::load(x + first + at, columns - at, wide);
                if (residual) {
                    auto other = Pack<T>::load(residual + first + at, columns - at, wide);
                    float added[lanes];
                    PLAIT_UNROLL
                    for (int j = 0; j < lanes; ++j) added[j] = v[j] + other[j];
                    v = Pack<T>(added);  // rounded as it is stored
                    v.store(sum + first + at, columns - at, wide);
                }
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j)
                    total[0] = centred ? total[0] + v[j] : fused(v[j], v[j], total[0]);
            }
            team_sum<threads>(block, shared, total);
            float middle = 0;
            if constexpr (centred) {
                middle = total[0] / static_cast<float>(columns);
                total[0] = 0;
                for (int at = block.thread() * lanes; at < columns; at += threads * lanes) {
                    auto v = Pack<T>::load(held + at, columns - at, wide);
                    PLAIT_UNROLL
                    for (int j = 0; j < lanes; ++j) {
                        float d = at + j < columns ? v[j] - middle : 0.0f;
                        total[0] = fused(d, d, total[0]);
                    }
                }
                team_sum<threads>(block, shared, total);
                if (block.thread() == 0) mean[row] = middle;
            }
            float scale = 1.0f / sqrtf(total[0] / static_cast<float>(columns) + eps);
            if (block.thread() == 0) rstd[row] = scale;
            for (int at = block.thread() * lanes; at < columns; at += threads * lanes) {
                int left = columns - at;
                auto h = Pack<T>::load(held + at, left, wide);
                auto g = Pack<float, lanes>::load(gain + at, left, wide);
                Pack<float, lanes> b;
                if constexpr (centred) b = Pack<float, lanes>::load(bias + at, left, wide);
                float v[lanes];
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) {
                    v[j] = (h[j] - middle) * scale * g[j];
                    if constexpr (centred) v[j] += b[j];
                }
                Pack<T>(v).store(y + first + at, left, wide);
            }
        }
    }
};

/// The partial sums of dgain and dbias: a block has `each` rows of some columns.
template <class T, bool centred>
struct LongNormSums {
    static constexpr char const* name = centred ? "layer_norm_gradient" : "rms_norm_gradient";
    static constexpr int threads = 256, lanes = Pack<T>::lanes, sums = centred ? 2 : 1;
    using Shared = NoShared;

    T const* dy;
    T const* x;
    float const* mean;
    float const* rstd;
    float* partial;  // [pieces(rows, each), sums, columns]
    std::int64_t rows, each;
    int columns;

    std::int64_t blocks() const { return pieces(rows, each) * pieces(columns, threads * lanes); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = columns % lanes == 0 && aligned(dy, x, partial);
        int parts = static_cast<int>(pieces(columns, threads * lanes));
        std::int64_t index = block.index() / parts;
        int at = (block.index() % parts * threads + block.thread()) * lanes, left = columns - at;
        if (left <= 0) return;
        float added[sums][lanes] = {};
        for (auto row = index * each; row < smaller(rows, (index + 1) * each); ++row) {
            float middle = centred ? mean[row] : 0.0f, scale = rstd[row];
            auto up = Pack<T>::load(dy + row * columns + at, left, wide),
                 in = Pack<T>::load(x + row * columns + at, left, wide);
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) {
                added[0][j] = fused(up[j], (in[j] - middle) * scale, added[0][j]);
                if constexpr (centred) added[1][j] += up[j];
            }
        }
        PLAIT_UNROLL
        for (int s = 0; s < sums; ++s)
            Pack<float, lanes>(added[s]).store(partial + (index * sums + s) * columns + at, left, wide);
    }
};

/// dx. `LongNormSums` comes before, as dx may take the place of dy.
template <class T, bool centred>
struct LongNormBackward {
    static constexpr char const* name = centred ? "layer_norm_gradient" : "rms_norm_gradient";
    static constexpr int threads = 512, lanes = Pack<T>::lanes, sums = centred ? 2 : 1;
    using Shared = WarpSums<threads, sums>;

    T const* dy;
    T const* x;
    float const* gain;
    float const* mean;
    float const* rstd;
    T const* residual;
    T* dx;
    float* partial;  // of LongNormSums
    std::int64_t rows;
    std::int64_t each;
    int columns;

    static std::int64_t rows_per_team(std::int64_t rows) {
        auto fair = pieces(rows, 128);
        return fair < 8 ? 8 : fair;
    }
    static std::int64_t partials(std::int64_t rows) { return pieces(rows, rows_per_team(rows)); }
    std::int64_t blocks() const { return smaller<std::int64_t>(rows, 1 << 16); }
    LongNormSums<T, centred> sums_over_rows() const {
        return {dy, x, mean, rstd, partial, rows, each, columns};
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = columns % lanes == 0 && aligned(dy, x, gain, residual, dx);
        for (std::int64_t row = block.index(); row < rows; row += block.blocks()) {
            auto first = row * columns;
            float middle = centred ? mean[row] : 0.0f, scale = rstd[row];
            float means[sums] = {};  // of dy gain xhat, and of dy gain
            for (int at = block.thread() * lanes; at < columns; at += threads * lanes) {
                int left = columns - at;
                auto up = Pack<T>::load(dy + first + at, left, wide),
                     in = Pack<T>::load(x + first + at, left, wide);
                auto g = Pack<float, lanes>::load(gain + at, left, wide);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) {
                    float through = up[j] * g[j];
                    means[0] = fused(through, (in[j] - middle) * scale, means[0]);
                    if constexpr (centred) means[1] += through;
                }
            }
            team_sum<threads>(block, shared, means);
            float slope = means[0] / static_cast<float>(columns), shift = 0;
            if constexpr (centred) shift = means[1] / static_cast<float>(columns);
            for (int at = block.thread() * lanes; at < columns; at += threads * lanes) {
                int left = columns - at;
                auto up = Pack<T>::load(dy + first + at, left, wide),
                     in = Pack<T>::load(x + first + at, left, wide);
                auto g = Pack<float, lanes>::load(gain + at, left, wide);
                Pack<T> extra;
                if (residual) extra = Pack<T>::load(residual + first + at, left, wide);
                float v[lanes];
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) {
                    float xhat = (in[j] - middle) * scale;
                    v[j] = scale * (up[j] * g[j] - shift - xhat * slope);
                    if (residual) v[j] += extra[j];
                }
                Pack<T>(v).store(dx + first + at, left, wide);
            }
        }
    }
};

}  // namespace plait::cuda
