// A build without NCCL: one GPU a run.
#include "plait/cuda/nccl.hpp"

namespace plait::cuda {

bool nccl_available() { return false; }

void run_nccl(std::shared_ptr<Machine>, std::function<void(Communicator&)> const&, NcclOptions) {
    fail<UsageError>(
        "this plait was built without NCCL: install it, set NCCL_HOME to it, and configure with "
        "PLAIT_CUDA=ON and PLAIT_NCCL=ON");
}

}  // namespace plait::cuda
