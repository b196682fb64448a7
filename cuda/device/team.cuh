#pragma once

// Folds over the threads of a team whose size is chosen at run time: a warp, or the whole block.

#include "cuda/device/any.cuh"

#include <limits>

namespace plait::cuda {

struct Sum {
    template <class C>
    static constexpr C identity = C(0);
    template <class C>
    PLAIT_DEVICE static C of(C total, C x) {
        if constexpr (std::is_floating_point_v<C>) return total + x;
        else return static_cast<C>(static_cast<std::uint64_t>(total) + static_cast<std::uint64_t>(x));
    }
};
struct Largest {
    template <class C>
    static constexpr C identity = std::is_floating_point_v<C> ? -std::numeric_limits<C>::infinity()
                                                              : std::numeric_limits<C>::min();
    template <class C>
    PLAIT_DEVICE static C of(C total, C x) {
        return greater(x, total);
    }
};

/// What the warps of a block say to each other.
template <class C, int threads>
struct TeamValues {
    C at[threads / warp_size];
};

/// The fold of v over the threads of the warp, or with `whole` of the block, which then passes two barriers.
template <class F, class C, int threads>
PLAIT_DEVICE C team_fold(Block const& block, TeamValues<C, threads>& shared, C v, bool whole) {
    PLAIT_UNROLL
    for (int mask = warp_size / 2; mask > 0; mask /= 2) v = F::of(v, block.shuffle_xor(v, mask));
    if (!whole) return v;
    if (block.thread() % warp_size == 0) shared.at[block.thread() / warp_size] = v;
    block.barrier();
    v = shared.at[0];
    PLAIT_UNROLL
    for (int w = 1; w < threads / warp_size; ++w) v = F::of(v, shared.at[w]);
    block.barrier();  // before the next fold overwrites these
    return v;
}

}  // namespace plait::cuda
