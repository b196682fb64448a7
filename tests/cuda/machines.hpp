#pragma once

#include "catch.hpp"
#include "cuda/host/machine.hpp"
#include "plait/cuda/device.hpp"

#include <memory>
#include <vector>

/// The machines that the laws of the CUDA backend run on.
namespace tests {

inline std::shared_ptr<plait::Backend> host_device(plait::cuda::Order order = plait::cuda::Order::forward,
                                                   plait::cuda::BackendOptions options = {}) {
    return plait::cuda::make_backend(
        std::make_shared<plait::cuda::HostMachine>(plait::cuda::HostOptions{.order = order}), options);
}

/// The first GPU with its own attention, or with the libraries' fastest; without one the case that asks is
/// skipped.
inline std::shared_ptr<plait::Backend> gpu_device(plait::cuda::BackendOptions options = {},
                                                  bool fastest = false) {
    if (plait::cuda::gpu_count() == 0) SKIP("there is no GPU that this build can use");
    if (fastest) return plait::cuda::make_backend(plait::cuda::open_gpu(), options);
    return plait::cuda::make_backend(
        plait::cuda::open_gpu({.fixed_algorithms = true, .library_attention = false}), options);
}

}  // namespace tests
