#pragma once

#include "cuda/stream_communicator.hpp"

#include <functional>

namespace plait::cuda {

/// How the ranks of a world find each other.
struct Meeting {
    Place place;
    std::unique_ptr<BoardServer> server;  // of rank 0, of more than one
};
/// By place_of_environment(). Throws UsageError.
Meeting meet_by_environment();
/// Over a communicator that is there already, MPI's say, of which nothing is wanted afterwards: rank 0 keeps
/// the board at a free port.
Meeting meet_over(Communicator& world);

/// The world of GPUs over NCCL, one process a rank, on `machine`, whose streams are CUDA's. Several ranks may
/// share a GPU, which tests do: NCCL then takes each for a host of its own and goes by sockets.
///
/// To be made before, and so to end after, what runs programs on it: NCCL's communicators live as long as
/// this one and must not end before the CUDA graphs that hold their work, or ncclCommDestroy waits for ever.
/// Throws UsageError and CommunicationError, within the time limit.
std::unique_ptr<StreamCommunicator> join_nccl(std::shared_ptr<Machine> machine, Meeting meeting,
                                              StreamOptions options = {});
/// "2.28.9", of the library that runs.
std::string nccl_version();

}  // namespace plait::cuda
