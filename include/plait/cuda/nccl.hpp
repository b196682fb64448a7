#pragma once

#include "plait/comm/communicator.hpp"

#include <functional>
#include <memory>

namespace plait::cuda {

class Machine;  // plait/cuda/device.hpp

struct NcclOptions {
    /// How long a rank waits for another in one call before the world fails.
    double limit_seconds = 300;
    /// Sums over ranks in one fixed order, as bits = "layout" wants; without it in whatever order NCCL finds
    /// fastest.
    bool ordered = true;
    /// The ranks find each other over MPI, which started them; else by RANK, WORLD_SIZE, MASTER_ADDR and
    /// MASTER_PORT (127.0.0.1 and 29500 where they are not set).
    bool over_mpi = false;
    /// Called with MPI's world before the GPUs meet: where ranks agree that all of them have one.
    std::function<void(Communicator&)> before{};
};

/// Whether this library was built with CUDA and NCCL; run_nccl throws UsageError where it was not.
bool nccl_available();

/// f(communicator of this process and its GPU). What runs programs on the GPU with it must end inside f: a
/// communicator may not go before the CUDA graphs that hold its calls. An exception ends the world for all
/// ranks, with its message, and is thrown again, as UsageError or Error, naming the rank.
void run_nccl(std::shared_ptr<Machine> gpu, std::function<void(Communicator&)> const& f,
              NcclOptions options = {});

}  // namespace plait::cuda
