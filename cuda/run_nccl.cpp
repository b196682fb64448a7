#include "cuda/nccl.hpp"
#include "plait/comm/mpi.hpp"
#include "plait/cuda/nccl.hpp"

namespace plait::cuda {

void run_nccl(std::shared_ptr<Machine> gpu, std::function<void(Communicator&)> const& f,
              NcclOptions options) {
    // MPI's world stays to the end: the launcher waits for it.
    auto const mpi = options.over_mpi ? join_mpi({.limit_seconds = options.limit_seconds}) : nullptr;
    if (mpi && options.before) options.before(*mpi);
    auto const world = join_nccl(std::move(gpu), mpi ? meet_over(*mpi) : meet_by_environment(),
                                 {.limit_seconds = options.limit_seconds, .ordered = options.ordered});
    auto const rank = world->rank();
    try {
        f(*world);
    } catch (std::exception const& e) {
        world->fail(failure_of_rank(rank, e.what()));
        rethrow_of_rank(rank, std::current_exception());
    } catch (...) {
        world->fail(failure_of_rank(rank, "an exception of unknown type"));
        rethrow_of_rank(rank, std::current_exception());
    }
}

}  // namespace plait::cuda
