#pragma once

#include "cuda/host/machine.hpp"
#include "plait/cuda/device.hpp"

/// The machines that the laws of the CUDA backend run on.
namespace tests {

inline std::shared_ptr<plait::Backend> host_device(plait::cuda::Order order = plait::cuda::Order::forward,
                                                   plait::cuda::BackendOptions options = {}) {
    return plait::cuda::make_backend(
        std::make_shared<plait::cuda::HostMachine>(plait::cuda::HostOptions{.order = order}), options);
}

}  // namespace tests
