#pragma once

#include "cuda/board.hpp"
#include "plait/comm/communicator.hpp"

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

/// Of this process.
std::string host_name();

}  // namespace plait::cuda
