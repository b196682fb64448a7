#pragma once

#include "plait/core/inline.hpp"

#include <cstdint>
#include <vector>

namespace plait {

/// A piece of memory that is needed from instruction `first` to instruction `last`, both included.
struct Lifetime {
    std::int64_t bytes = 0;
    int first = 0, last = 0;
};

struct MemoryPlan {
    std::vector<std::int64_t> offsets;  // one a lifetime, multiples of `alignment`
    std::int64_t bytes = 0;             // end of the highest one
    std::int64_t live_bytes = 0;        // most bytes alive at once: no plan can be smaller
};

/// Places lifetimes in one arena so that those that overlap in time do not overlap in memory: largest first,
/// each at the lowest offset that is free during its life.
MemoryPlan plan_memory(std::vector<Lifetime> const& lifetimes, std::int64_t alignment = 64);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/exec/memory_plan-inl.hpp"
#endif
