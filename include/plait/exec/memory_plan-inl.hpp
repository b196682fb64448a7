#pragma once

#include "plait/exec/memory_plan.hpp"

#include <algorithm>
#include <map>
#include <numeric>

namespace plait {

PLAIT_INLINE MemoryPlan plan_memory(std::vector<Lifetime> const& lifetimes, std::int64_t alignment) {
    MemoryPlan plan{std::vector<std::int64_t>(lifetimes.size(), 0), 0, 0};
    auto rounded = [&](std::int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; };

    std::map<int, std::int64_t> changes;
    for (auto const& l : lifetimes) {
        changes[l.first] += rounded(l.bytes);
        changes[l.last + 1] -= rounded(l.bytes);
    }
    std::int64_t live = 0;
    for (auto const& [at, change] : changes) plan.live_bytes = std::max(plan.live_bytes, live += change);

    std::vector<std::size_t> order(lifetimes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
    std::vector<std::size_t> placed;  // by offset
    for (auto i : order) {
        auto const& l = lifetimes[i];
        if (l.bytes == 0) continue;
        std::int64_t at = 0, size = rounded(l.bytes);
        for (auto p : placed) {
            auto const& o = lifetimes[p];
            if (o.last < l.first || l.last < o.first) continue;
            if (plan.offsets[p] >= at + size) break;
            at = std::max(at, plan.offsets[p] + rounded(o.bytes));
        }
        plan.offsets[i] = at;
        plan.bytes = std::max(plan.bytes, at + size);
        placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                       [&](auto a, auto b) { return plan.offsets[a] < plan.offsets[b]; }),
                      i);
    }
    return plan;
}

}  // namespace plait
