#pragma once

#include <exception>

#include "command_line.hpp"

namespace plait::tools {

/// `plait prepare`; gives the exit code.
int prepare(PrepareArguments const& arguments);

/// `plait train`; gives the exit code.
int train(TrainArguments const& arguments);

/// `plait train` with arguments that cannot be read: tells it once for all processes of a launcher, and gives
/// the exit code. Throws `wrong` where there is one process.
int refuse(std::exception_ptr wrong);

/// `plait generate`; gives the exit code.
int generate(GenerateArguments const& arguments);

/// `plait report`; gives the exit code.
int report(ReportArguments const& arguments);
/// `plait bisect`; gives the exit code: 1 where a difference is no rounding.
int bisect(BisectArguments const& arguments);

}  // namespace plait::tools
