#pragma once

#include <string>

#include "plait/parallel/schedule_check.hpp"

namespace plait::tools {

/// A figure of a schedule at the times of its timeline: a row for each rank, its pieces along the time, below
/// them how many stashes are alive; with a table of each rank's work, bubble and memory.
std::string schedule_picture(Schedule const& schedule, Timeline const& timeline);

/// What the figures of a page draw with; once a page, before them.
std::string schedule_patterns();

/// The picture alone as an SVG file, light or dark as its reader likes.
std::string schedule_svg(Schedule const& schedule, Timeline const& timeline);

}  // namespace plait::tools
