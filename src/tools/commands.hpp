#pragma once

#include "command_line.hpp"

namespace plait::tools {

/// `plait train`; gives the exit code.
int train(TrainArguments const& arguments);

/// `plait generate`; gives the exit code.
int generate(GenerateArguments const& arguments);

}  // namespace plait::tools
