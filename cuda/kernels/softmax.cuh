#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/team.cuh"

namespace plait::cuda {

/// softmax of each row of n, which may be of any length: it is read three times, out of the caches if it is
/// short. A row has a warp, or a block from 2048 elements on. y may be x.
template <class T>
struct SoftmaxRows {
    static constexpr char const* name = "softmax";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = TeamValues<float, threads>;

    T const* x;
    T* y;
    std::int64_t rows, n;

    PLAIT_BOTH bool whole() const { return n >= 2048; }
    std::int64_t blocks() const {
        return smaller<std::int64_t>(pieces(rows, whole() ? 1 : threads / warp_size), 1 << 20);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        int team = whole() ? threads : warp_size, lane = block.thread() % team, teams = threads / team;
        std::int64_t step = team * lanes;
        for (auto row = static_cast<std::int64_t>(block.index()) * teams + block.thread() / team; row < rows;
             row += static_cast<std::int64_t>(block.blocks()) * teams) {
            auto const* from = x + row * n;
            auto* to = y + row * n;
            bool wide = aligned(from, to);
            float most = Largest::identity<float>, sum = 0.0f;
            for (std::int64_t i = lane * lanes; i < n; i += step) {
                auto a = Pack<T>::load(from + i, n - i, wide);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j)
                    if (j < n - i && a[j] > most) most = a[j];
            }
            most = team_fold<Largest>(block, shared, most, whole());
            for (std::int64_t i = lane * lanes; i < n; i += step) {
                auto a = Pack<T>::load(from + i, n - i, wide);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j)
                    if (j < n - i) sum += fast_exp(a[j] - most);
            }
            sum = team_fold<Sum>(block, shared, sum, whole());
            float scale = 1.0f / sum;
            for (std::int64_t i = lane * lanes; i < n; i += step) {
                auto a = Pack<T>::load(from + i, n - i, wide);
                float v[lanes];
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) v[j] = fast_exp(a[j] - most) * scale;
                Pack<T>(v).store(to + i, n - i, wide);
            }
        }
    }
};

/// dx = y * (dy - sum(dy * y)) in each row of n. dx may be y or dy.
template <class T>
struct SoftmaxGradientRows {
    static constexpr char const* name = "softmax_gradient";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = TeamValues<float, threads>;

    T const *y, *dy;
    T* dx;
    std::int64_t rows, n;

    PLAIT_BOTH bool whole() const { return n >= 2048; }
    std::int64_t blocks() const {
        return smaller<std::int64_t>(pieces(rows, whole() ? 1 : threads / warp_size), 1 << 20);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        int team = whole() ? threads : warp_size, lane = block.thread() % team, teams = threads / team;
        std::int64_t step = team * lanes;
        for (auto row = static_cast<std::int64_t>(block.index()) * teams + block.thread() / team; row < rows;
             row += static_cast<std::int64_t>(block.blocks()) * teams) {
            std::int64_t at = row * n;
            bool wide = aligned(y + at, dy + at, dx + at);
            float sum = 0.0f;
            for (std::int64_t i = lane * lanes; i < n; i += step) {
                auto a = Pack<T>::load(y + at + i, n - i, wide), d = Pack<T>::load(dy + at + i, n - i, wide);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) sum += a[j] * d[j];  // zeros beyond the end
            }
            sum = team_fold<Sum>(block, shared, sum, whole());
            for (std::int64_t i = lane * lanes; i < n; i += step) {
                auto a = Pack<T>::load(y + at + i, n - i, wide), d = Pack<T>::load(dy + at + i, n - i, wide);
                float v[lanes];
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) v[j] = a[j] * (d[j] - sum);
                Pack<T>(v).store(dx + at + i, n - i, wide);
            }
        }
    }
};

}  // namespace plait::cuda
