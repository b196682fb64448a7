#pragma once

#include <string>

#include "model.hpp"
#include "plait/train/agreement.hpp"

namespace plait::tools {

/// What all ranks of a run must have been told alike: every key but those of one rank or its machine.
Claims claims_of(Config const& config);

/// What all ranks must have made of it alike: the text of this fingerprint, the plan, the program and, on a
/// pipeline, its schedule with the modules of its stages.
Claims claims_of(Config const& config, Programs const& programs, std::string const& text);

}  // namespace plait::tools
