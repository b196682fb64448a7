#pragma once

#include "plait/parallel/schedule_check.hpp"

#include <string>

namespace plait {

/// A picture of letters: for each rank what it does in every `column_seconds` (0: the time of the shortest
/// piece), below it the stage, where ranks have several, and the micro-batch; a dot is a bubble. Numbers of
/// several digits stand upright.
std::string schedule_text(Schedule const& schedule, Timeline const& timeline, double column_seconds = 0);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/schedule_text-inl.hpp"
#endif
