#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model.hpp"
#include "plait/comm/communicator.hpp"
#include "plait/parallel/schedule_check.hpp"

namespace plait::tools {

/// What one rank of a run takes, in bytes.
struct RankMemory {
    std::int64_t all = 0;    // arena, and the copies that saves and samples take
    std::int64_t stash = 0;  // of it: what micro-batches under way keep
    int pipeline = 0;        // the rank's coordinate along the pipeline axis
};

/// What the ranks on this machine take.
struct HostMemory {
    std::vector<RankMemory> ranks;
    /// On a pipeline: its schedule, and what a micro-batch of every stage keeps.
    Schedule schedule{};
    Costs costs{};
};

/// Collective. `hosts` [ranks] are what the ranks run on; empty: all on this one.
HostMemory memory_of_ranks(Communicator& world, Programs const& programs,
                           std::vector<std::string> const& hosts);

/// Bytes of this machine.
std::int64_t machine_memory();

/// Throws UsageError where the ranks of a machine take more than the `has` bytes of it: where a pipeline's
/// schedule has too many micro-batches under way for what the rest leaves, with its rank and slot, `schedule`
/// being plan.schedule.
void check_memory(HostMemory const& memory, std::int64_t has, std::string const& schedule);

}  // namespace plait::tools
