#pragma once

#include <memory>
#include <string>

#include "config.hpp"
#include "launch.hpp"
#include "model.hpp"
#include "plait/cuda/device.hpp"

namespace plait::tools {

/// What one rank computes on.
struct Device {
    std::shared_ptr<Backend> backend;
    std::shared_ptr<cuda::Machine> gpu{};  // null on the CPU

    /// "cpu, 2 threads, avx512 kernels", "cuda, NVIDIA H100 80GB HBM3"
    std::string text(bool many_ranks) const;
};

/// Sets run.device to cuda where it was not given, this process sees some of `gpus`, and nothing else that
/// was asked for is of CPUs alone.
void plan_device(Config& config, Launcher const& launcher, int gpus = cuda::gpu_count());

/// What programs are compiled for to be looked at: it takes no GPU.
std::shared_ptr<Backend> planned_backend(Config const& config, World const& world);

/// Takes the device of a rank; with `sync` a GPU is waited for after every op. Throws UsageError where there
/// is none.
Device take_device(Config const& config, World const& world, Launcher const& launcher, bool sync = false);

/// Throws UsageError where what is planned for this rank is more than the `free` bytes of its GPU: with what
/// takes it, and the changes of the plan that would fit.
void check_gpu_memory(Config const& config, Programs const& programs, std::int64_t free);

}  // namespace plait::tools
