#pragma once

#include <string>

namespace plait::cuda {

struct GpuDevice {
    int number = 0;
    std::string name;
    int architecture = 0;  // 90 of sm_90
    /// As streams have them: the ordinary one, and one that goes first.
    int priority = 0, high_priority = 0;
};

/// Makes a device this process's, with errors as open_gpu (plait/cuda/device.hpp) has them.
GpuDevice take_device(int number);

}  // namespace plait::cuda
