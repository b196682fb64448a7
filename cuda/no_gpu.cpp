// A build without CUDA: programs for GPUs can be compiled and looked at, and GPUs cannot be had.
#include "plait/cuda/device.hpp"

namespace plait::cuda {

bool available() { return false; }

int gpu_count() { return 0; }

std::shared_ptr<Machine> open_gpu(GpuOptions) {
    fail<UsageError>(
        "this plait was built without CUDA: configure it with --preset cuda (it needs nvcc 12.9 or newer), "
        "or use "
        "run.device = \"cpu\"");
}

}  // namespace plait::cuda
