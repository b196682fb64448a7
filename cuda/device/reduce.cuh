#pragma once

// Sums over the threads of a team, which is a warp or a whole block, in an order that never changes.

#include "cuda/device/block.cuh"

namespace plait::cuda {

/// What the warps of a block say to each other.
template <int threads, int values>
struct WarpSums {
    float at[values][threads / warp_size];
};

/// Replaces every v[i] by its sum over the `team` threads, in all of them. A team of more than a warp is the
/// whole block and passes two barriers.
template <int team, int values>
PLAIT_DEVICE void team_sum(Block const& block, WarpSums<team, values>& shared, float (&v)[values]) {
    PLAIT_UNROLL
    for (int i = 0; i < values; ++i) PLAIT_UNROLL
    for (int mask = warp_size / 2; mask > 0; mask /= 2) v[i] += block.shuffle_xor(v[i], mask);
    if constexpr (team > warp_size) {
        int warp = block.thread() / warp_size;
        if (block.thread() % warp_size == 0) PLAIT_UNROLL
        for (int i = 0; i < values; ++i) shared.at[i][warp] = v[i];
        block.barrier();
        PLAIT_UNROLL
        for (int i = 0; i < values; ++i) {
            v[i] = shared.at[i][0];
            PLAIT_UNROLL
            for (int w = 1; w < team / warp_size; ++w) v[i] += shared.at[i][w];
        }
        block.barrier();  // before the next sum overwrites these
    }
}

}  // namespace plait::cuda
