#pragma once

#include <string>

#include "command_line.hpp"
#include "model.hpp"
#include "rank_places.hpp"

namespace plait::tools {

/// Bytes that a process holds outside its arena, each with where the figure comes from.
struct OutsideMemory {
    std::int64_t process = 0;    // resident now: code, libraries, graphs
    std::int64_t libraries = 0;  // that libraries and threads take at their first call: an estimate
    std::int64_t text = 0;       // of the corpus
};
/// Measures this process; `text` bytes of it are the corpus.
OutsideMemory measure_outside(std::int64_t text, int workers);

/// Arena rows by kind, exact; rows outside it; and the sum.
std::string memory_text(Config const& config, Programs const& programs, OutsideMemory const& outside);

/// What --dry-run prints: parameters, mesh and how its axes lie on islands, memory of a rank.
std::string dry_run_text(Config const& config, Programs const& programs, RankPlaces const& places,
                         OutsideMemory const& outside);

/// What --dump prints of the training step, as this rank of the mesh has it.
std::string dump_text(Dump const& dump, Config const& config, Programs const& programs);

std::int64_t count_parameters(State const& state);

}  // namespace plait::tools
