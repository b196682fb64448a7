#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

#include <cfloat>

namespace plait::cuda {

/// log(sum(exp(x))) of runs of numbers, by all threads of a block.
template <class T, int threads>
struct LogSumExp {
    static constexpr int lanes = Pack<T>::lanes, warps = threads / warp_size;
    struct Shared {
        float most[warps], sum[warps];
    };

    /// The sum of exp(x - most), brought to a common `most`.
    float most, sum;
    PLAIT_DEVICE void add(float other_most, float other_sum) {
        float top = fmaxf(most, other_most);
        sum = sum * fast_exp(most - top) + other_sum * fast_exp(other_most - top);
        most = top;
    }

    /// Of n numbers; -infinity where there are none. The order depends on n alone. Passes two barriers.
    PLAIT_DEVICE static float of(Block const& block, Shared& shared, T const* x, int n, bool wide) {
        // Not -infinity, from which another one cannot be subtracted.
        LogSumExp own{-FLT_MAX, 0};
        for (int i = block.thread() * lanes; i < n; i += threads * lanes) {
            auto v = Pack<T>::load(x + i, n - i, wide);
            float most = own.most;
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j)
                if (i + j < n) most = fmaxf(most, v[j]);
            float sum = 0;
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j)
                if (i + j < n) sum += fast_exp(v[j] - most);
            own = {most, own.sum * fast_exp(own.most - most) + sum};
        }
        PLAIT_UNROLL
        for (int mask = warp_size / 2; mask > 0; mask /= 2) {
            float most = block.shuffle_xor(own.most, mask), sum = block.shuffle_xor(own.sum, mask);
            own.add(most, sum);
        }
        if (block.thread() % warp_size == 0) {
            shared.most[block.thread() / warp_size] = own.most;
            shared.sum[block.thread() / warp_size] = own.sum;
        }
        block.barrier();
        own = {shared.most[0], shared.sum[0]};
        for (int w = 1; w < warps; ++w) own.add(shared.most[w], shared.sum[w]);
        block.barrier();  // before the next run overwrites these
        return own.most + logf(own.sum);
    }
};

}  // namespace plait::cuda
