#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

#include <cfloat>

namespace plait::cuda {

/// The first `count` of a pack, and -infinity, of which exponentials are zeros.
template <class T>
PLAIT_DEVICE Pack<T> limited(Pack<T> const& v, int count) {
    constexpr int lanes = Pack<T>::lanes;
    if (count >= lanes) return v;
    float x[lanes];
    PLAIT_UNROLL
    for (int j = 0; j < lanes; ++j) x[j] = j < count ? v[j] : -INFINITY;
    return Pack<T>(x);
}

/// log(sum(exp(x))) of runs of numbers, by all threads of a block, each of which takes every `threads`th
/// pack.
template <class T, int threads>
struct LogSumExp {
    static constexpr int lanes = Pack<T>::lanes, step = threads * lanes, warps = threads / warp_size;
    struct Shared {
        float most[warps], sum[warps];
    };

    /// The sum of exp(x - most), brought to a common `most`. That is not -infinity, from which another one
    /// cannot be subtracted.
    float most = -FLT_MAX, sum = 0;

    PLAIT_DEVICE void take(Pack<T> const& v) {
        float top = most, part = 0;
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) top = fmaxf(top, v[j]);
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) part += fast_exp(v[j] - top);
        sum = fused(sum, fast_exp(most - top), part);
        most = top;
    }
    /// Those of x[0, n) from the thread's pack at i on. The next one is on its way while one is taken.
    PLAIT_DEVICE void take(T const* x, int i, int n, bool wide) {
        if (i >= n) return;
        auto next = Pack<T>::load(x + i, n - i, wide);
        for (; i < n; i += step) {
            auto v = limited(next, n - i);
            if (int ahead = i + step; ahead < n) next = Pack<T>::load(x + ahead, n - ahead, wide);
            take(v);
        }
    }

    /// Of what all threads of the block have taken; -infinity of nothing. Passes one barrier, so the next
    /// call needs another `shared`, and the one after it may have this one again.
    PLAIT_DEVICE float of_block(Block const& block, Shared& shared) {
        add_lanes(block);
        int lane = block.thread() % warp_size;
        if (lane == 0) {
            shared.most[block.thread() / warp_size] = most;
            shared.sum[block.thread() / warp_size] = sum;
        }
        block.barrier();
        LogSumExp all;
        if (lane < warps) all.most = shared.most[lane], all.sum = shared.sum[lane];
        all.add_lanes(block);
        return all.most + logf(all.sum);
    }

  private:
    /// The sum over the lanes of a warp, the same in all of them: a + b has the bits of b + a.
    PLAIT_DEVICE void add_lanes(Block const& block) {
        float top = most;
        PLAIT_UNROLL
        for (int mask = warp_size / 2; mask > 0; mask /= 2) top = fmaxf(top, block.shuffle_xor(top, mask));
        sum *= fast_exp(most - top);
        most = top;
        PLAIT_UNROLL
        for (int mask = warp_size / 2; mask > 0; mask /= 2) sum += block.shuffle_xor(sum, mask);
    }
};

}  // namespace plait::cuda
