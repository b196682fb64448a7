#pragma once

#include "plait/parallel/schedule.hpp"

#include <vector>

namespace plait {

/// What lives from a micro-batch's piece `from` to its piece `to`, both included: F to W all that a stash may
/// hold, F to B what W does not read, B to W what B leaves.
struct StashLife {
    Work from = Work::F, to = Work::W;
};

/// Copies that are needed of what lives so, by stage. Stages of one rank whose stashes have one size can
/// share copies: `pools` gives each stage a pool, and the counts are by pool; `schedule.rank_of_stage` makes
/// one of every rank. `schedule` must be one that check_schedule (schedule_check.hpp) takes. Throws
/// UsageError where stages of two ranks share a pool.
std::vector<int> live_counts(Schedule const& schedule, StashLife life = {},
                             std::vector<int> const& pools = {});

/// Which copy, from 0 to live_counts - 1 of the stage or pool, each slot's micro-batch has, as
/// Schedule::slots; -1 where it has none in that slot. The lowest free one is taken, so the same schedule has
/// the same copies.
std::vector<std::vector<int>> live_copies(Schedule const& schedule, StashLife life = {},
                                          std::vector<int> const& pools = {});

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/schedule_live-inl.hpp"
#endif
