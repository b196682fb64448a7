#pragma once

#include <string>

#include "model.hpp"

namespace plait::tools {

/// A figure of the training step's memory plan: its places over the instructions, bytes upwards, with the
/// table of bytes by kind as its legend.
std::string memory_picture(Programs const& programs);

/// What the pictures of a page draw with; once a page, before them.
std::string memory_patterns();

}  // namespace plait::tools
