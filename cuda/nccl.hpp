#pragma once

#include "cuda/meeting.hpp"
#include "cuda/stream_communicator.hpp"
#include "plait/cuda/nccl.hpp"

namespace plait::cuda {

/// The world of GPUs over NCCL, one process a rank, on `machine`, whose streams are CUDA's. Several ranks may
/// share a GPU, which tests do: NCCL then takes each for a host of its own and goes by sockets.
///
/// To be made before, and so to end after, what runs programs on it: NCCL's communicators live as long as
/// this one and must not end before the CUDA graphs that hold their work, or ncclCommDestroy waits for ever.
/// Throws UsageError, where this was built without NCCL too, and
/// CommunicationError, within the time limit.
std::unique_ptr<StreamCommunicator> join_nccl(std::shared_ptr<Machine> machine, Meeting meeting,
                                              StreamOptions options = {});
/// "2.28.9", of the library that runs; "" without it.
std::string nccl_version();

}  // namespace plait::cuda
