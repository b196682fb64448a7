#pragma once

#include "plait/parallel/schedule_live.hpp"

#include <algorithm>
#include <functional>
#include <queue>

namespace plait {
namespace detail {

/// The pool of every stage.
inline std::vector<int> pools_of_stages(Schedule const& s, std::vector<int> pools) {
    if (pools.empty())
        for (int stage = 0; stage < s.stages; ++stage) pools.push_back(stage);
    check<UsageError>(static_cast<int>(pools.size()) == s.stages,
                      "schedule {}: pools of {} stages, but it has {}: give one of each", s.name,
                      pools.size(), s.stages);
    for (std::size_t a = 0; a < pools.size(); ++a) {
        check<UsageError>(pools[a] >= 0 && pools[a] < s.stages, "schedule {}: pool {}: count from 0 to {}",
                          s.name, pools[a], s.stages - 1);
        auto const b =
            static_cast<std::size_t>(std::find(pools.begin(), pools.end(), pools[a]) - pools.begin());
        check<UsageError>(
            s.rank_of_stage[a] == s.rank_of_stage[b],
            "schedule {}: stages {} and {} share a pool, but lie on ranks {} and {}: give each rank "
            "pools of its own",
            s.name, b, a, s.rank_of_stage[b], s.rank_of_stage[a]);
    }
    return pools;
}

}  // namespace detail

PLAIT_INLINE std::vector<std::vector<int>> live_copies(Schedule const& s, StashLife life,
                                                       std::vector<int> const& given) {
    struct Pool {
        std::priority_queue<int, std::vector<int>, std::greater<>> free;
        int made = 0;
    };
    auto const pools = detail::pools_of_stages(s, given);
    std::vector<Pool> all(pools.size());
    std::vector<std::vector<int>> copy_of(pools.size());  // by stage and micro-batch
    for (auto& row : copy_of) row.assign(static_cast<std::size_t>(s.micro_batches), -1);
    std::vector<std::vector<int>> copies(s.slots.size());
    detail::for_each_slot(s, [&](int rank, std::size_t, Slot const& slot) {
        auto const stage = static_cast<std::size_t>(slot.stage);
        auto& pool = all[static_cast<std::size_t>(pools[stage])];
        auto& copy = copy_of[stage][static_cast<std::size_t>(slot.micro)];
        if (slot.work == life.from) {
            if (pool.free.empty()) pool.free.push(pool.made++);
            copy = pool.free.top();
            pool.free.pop();
        }
        copies[static_cast<std::size_t>(rank)].push_back(copy);
        if (slot.work == life.to && copy >= 0) {
            pool.free.push(copy);
            copy = -1;
        }
    });
    return copies;
}

PLAIT_INLINE std::vector<int> live_counts(Schedule const& s, StashLife life, std::vector<int> const& given) {
    auto const pools = detail::pools_of_stages(s, given);
    auto const copies = live_copies(s, life, pools);
    std::vector<int> counts(static_cast<std::size_t>(*std::max_element(pools.begin(), pools.end())) + 1, 0);
    detail::for_each_slot(s, [&](int rank, std::size_t at, Slot const& slot) {
        auto& count = counts[static_cast<std::size_t>(pools[static_cast<std::size_t>(slot.stage)])];
        count = std::max(count, copies[static_cast<std::size_t>(rank)][at] + 1);
    });
    return counts;
}

}  // namespace plait
