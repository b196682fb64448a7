#pragma once

#include "plait/comm/communicator.hpp"
#include "plait/core/inline.hpp"
#include "plait/exec/program.hpp"
#include "plait/exec/trace_log.hpp"
#include "plait/parallel/mesh.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace plait {

/// The time of this rank's steady clock that is 0 in a trace of all ranks: all calls made after this one
/// began later. Collective. Ranks on one machine share the clock; that of others is compared with rank 0's by
/// some barriers, whose time bounds the error.
std::int64_t trace_origin(Communicator& world);

/// A rank's events as Chrome's JSON has them, with commas between. Thread 0 of process `mesh.rank()` is its
/// work: steps, in them the visits of pieces, in them instructions. Collectives and messages are on threads
/// from 1 on, from their start to the end of the wait for them, on as many as are under way at one time;
/// arrows go from the sends of a pipeline to the waits of their receivers. Times are microseconds.
std::string trace_rows(Program const& program, Mesh const& mesh, TraceLog const& log, std::int64_t origin);

/// The whole file from the rows of all ranks.
std::string trace_json(std::vector<std::string> const& rows);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/trace_file-inl.hpp"
#endif
