#pragma once

#include "plait/parallel/schedule.hpp"

#include <string>
#include <string_view>

namespace plait {

/// A schedule as text: a row for each rank, its pieces in order, as cells like `0F3` (stage 0, forward,
/// micro-batch 3). Empty cells are passed over; a stage lies on the rank in whose row it stands. `file` is
/// what errors name. Throws UsageError with file, row and cell, counted from 1, for a cell that is no piece,
/// a row without any, a stage in two rows and numbers with gaps; check_schedule finds the rest.
Schedule parse_schedule_csv(std::string_view text, std::string const& file);

/// The text that parse_schedule_csv reads: a line for each rank.
std::string schedule_csv(Schedule const& schedule);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/schedule_csv-inl.hpp"
#endif
