#include "memory_check.hpp"

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "plait/train/agreement.hpp"
#include "plait/train/progress.hpp"
#include "plait/train/stage_costs.hpp"

namespace plait::tools {
namespace {

/// The part of `of` that `part` is of `whole`.
std::int64_t share(std::int64_t of, std::int64_t part, std::int64_t whole) {
    return static_cast<std::int64_t>(static_cast<double>(of) * static_cast<double>(part) /
                                     static_cast<double>(whole));
}

/// What the rest leaves is divided among the ranks as their stashes are.
void check_stashes(HostMemory const& memory, std::int64_t left, std::int64_t stashes,
                   std::string const& name) {
    std::vector<std::int64_t> limits(static_cast<std::size_t>(memory.schedule.ranks),
                                     std::numeric_limits<std::int64_t>::max());
    for (auto const& r : memory.ranks) {
        auto& limit = limits[static_cast<std::size_t>(r.pipeline)];
        limit = std::min(limit, share(left, r.stash, stashes));
    }
    try {
        check_schedule(memory.schedule, memory.costs, limits);
    } catch (UsageError const& e) {
        fail<UsageError>("plan.schedule = \"{}\": {}", name, e.what());
    }
}

}  // namespace

HostMemory memory_of_ranks(Communicator& world, Programs const& programs,
                           std::vector<std::string> const& hosts) {
    auto const& dumps = programs.train.dumps();
    auto const& program = programs.train.program();
    bool const pipeline = dumps.sections.pipeline.has_value();
    auto const stages = pipeline ? dumps.schedule.stages : 0;
    std::int64_t stash = 0;
    for (auto const& place : program.places)
        if (place.kind == &MemoryTable::stash) stash += place.bytes;
    std::vector<std::int64_t> mine{programs.all_bytes(), stash,
                                   programs.plan.mesh().axis("pipeline").coordinate};
    auto const own = stash_costs(program, stages);
    mine.insert(mine.end(), own.stash_bytes.begin(), own.stash_bytes.end());
    mine.insert(mine.end(), own.held_bytes.begin(), own.held_bytes.end());
    auto const all = gather_numbers(world, std::span(std::as_const(mine)));
    HostMemory memory;
    std::vector<Costs> costs;
    for (int r = 0; r < world.size(); ++r) {
        auto const i = static_cast<std::size_t>(r);
        auto const* row = all.data() + i * mine.size();
        auto const* const bytes = row + 3;
        auto& c = costs.emplace_back();
        c.stash_bytes.assign(bytes, bytes + stages), c.held_bytes.assign(bytes + stages, bytes + 2 * stages);
        if (hosts.empty() || hosts[i] == hosts[static_cast<std::size_t>(world.rank())])
            memory.ranks.push_back({row[0], row[1], static_cast<int>(row[2])});
    }
    if (pipeline) memory.schedule = dumps.schedule, memory.costs = joined_costs(costs);
    return memory;
}

std::int64_t machine_memory() { return std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE); }

void check_memory(HostMemory const& memory, std::int64_t has, std::string const& schedule) {
    std::int64_t wants = 0, stashes = 0;
    for (auto const& r : memory.ranks) wants += r.all, stashes += r.stash;
    if (wants <= has) return;
    auto const left = has - (wants - stashes);
    if (stashes > 0 && left > 0 && memory.schedule.ranks > 1) check_stashes(memory, left, stashes, schedule);
    fail<UsageError>(
        "the run needs {} of memory, this machine has {}: use a smaller model or data.batch, more "
        "plan.micro_batches, or plan.recompute; --dry-run shows what takes it",
        bytes_text(static_cast<double>(wants)), bytes_text(static_cast<double>(has)));
}

}  // namespace plait::tools
