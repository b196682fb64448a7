#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

#include <cfloat>

namespace plait::cuda {

/// A loss's gradient by columns from i on: (exp(v - lse) - [column is the target]) * d for the first
/// `classes`, 0 for others.
template <class P, int lanes>
PLAIT_DEVICE void loss_gradient(P const& v, int i, int classes, int target, float lse, float d,
                                float (&dx)[lanes]) {
    if (i < classes - lanes + 1) PLAIT_UNROLL
    for (int j = 0; j < lanes; ++j) dx[j] = fast_exp(v[j] - lse);
    else PLAIT_UNROLL
    for (int j = 0; j < lanes; ++j) dx[j] = i + j < classes ? fast_exp(v[j] - lse) : 0.0f;
    if (i <= target && target - i < lanes) PLAIT_UNROLL
    for (int j = 0; j < lanes; ++j)
        if (i + j == target) dx[j] -= 1.0f;
    PLAIT_UNROLL
    for (int j = 0; j < lanes; ++j) dx[j] *= d;
}

/// log(sum(exp(x))) of runs of numbers, by all threads of a block.
template <class T, int threads>
struct LogSumExp {
    static constexpr int lanes = Pack<T>::lanes, warps = threads / warp_size;
    struct Shared {
        float most[warps], sum[warps];
    };

    /// Adds the first `count` of a pack.
    PLAIT_DEVICE void take(Pack<T> const& v, int count) {
        float top = most, part = 0;
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j)
            if (j < count) top = fmaxf(top, v[j]);
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j)
            if (j < count) part += fast_exp(v[j] - top);
        sum = fused(sum, fast_exp(most - top), part);
        most = top;
    }

    /// The sum of exp(x - most), brought to a common `most`.
    float most, sum;
    PLAIT_DEVICE void add(float other_most, float other_sum) {
        float top = fmaxf(most, other_most);
        sum = sum * fast_exp(most - top) + other_sum * fast_exp(other_most - top);
        most = top;
    }

    /// The sum over the lanes of a warp, the same in all of them: a and b have the bits of b and a.
    PLAIT_DEVICE void add_lanes(Block const& block) {
        PLAIT_UNROLL
        for (int mask = warp_size / 2; mask > 0; mask /= 2) {
            float other_most = block.shuffle_xor(most, mask), other_sum = block.shuffle_xor(sum, mask);
            add(other_most, other_sum);
        }
    }

    /// Of n numbers; -infinity where there are none. The order depends on n alone. Passes two barriers.
    PLAIT_DEVICE static float of(Block const& block, Shared& shared, T const* x, int n, bool wide) {
        // Not -infinity, from which another one cannot be subtracted.
        LogSumExp own{-FLT_MAX, 0};
        int i = block.thread() * lanes;
        for (; i < n - lanes + 1; i += threads * lanes) own.take(Pack<T>::load(x + i, lanes, wide), lanes);
        if (i < n) own.take(Pack<T>::load(x + i, n - i, wide), n - i);
        own.add_lanes(block);
        int lane = block.thread() % warp_size;
        if (lane == 0) {
            shared.most[block.thread() / warp_size] = own.most;
            shared.sum[block.thread() / warp_size] = own.sum;
        }
        block.barrier();
        own = {-FLT_MAX, 0};
        if (lane < warps) own = {shared.most[lane], shared.sum[lane]};
        own.add_lanes(block);
        block.barrier();  // before the next run overwrites these
        return own.most + logf(own.sum);
    }
};

}  // namespace plait::cuda
