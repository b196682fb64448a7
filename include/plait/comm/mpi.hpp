#pragma once

#include "plait/comm/communicator.hpp"

#include <functional>

namespace plait {

struct MpiOptions {
    /// How long a rank waits for another in one call before the world fails.
    double limit_seconds = 300;
};

/// Whether this library was built with MPI (PLAIT_MPI); the functions below throw UsageError where it was
/// not. They are always compiled, so not part of plait::header_only.
bool mpi_available();

/// The world of all processes that mpirun started, to be taken once. MPI is initialised here and finalised
/// when the last communicator made from this one is gone, which waits for the other ranks. After a failure it
/// is not finalised: mpirun ends the job when the process exits.
std::unique_ptr<Communicator> join_mpi(MpiOptions options = {});

/// f(communicator of this process). An exception ends the world for all ranks, with its message, and is
/// thrown again, as UsageError or Error, naming the rank.
void run_mpi(std::function<void(Communicator&)> const& f, MpiOptions options = {});

}  // namespace plait
