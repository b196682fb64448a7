#pragma once

#include "plait/cuda/device.hpp"
#include "plait/train/compile.hpp"

#include <sys/resource.h>

#include <memory>
#include <string>

namespace plait::benchmark {

/// What a benchmark runs on.
struct Device {
    std::shared_ptr<Backend> backend;
    std::shared_ptr<cuda::Machine> gpu{};
    std::int64_t free_before = 0;

    std::string text() const { return gpu ? cuda::description(*gpu) : std::string(backend->name()); }
    /// Of the process, or what the GPU has less than before: arena and libraries.
    std::int64_t peak_bytes() const {
        if (gpu) return free_before - cuda::free_bytes(*gpu);
        rusage used{};
        getrusage(RUSAGE_SELF, &used);
        return std::int64_t{used.ru_maxrss} << 10;
    }
};

/// `dry`: programs are only compiled, which takes no GPU.
inline Device device_of(std::string const& name, int threads, bool fixed_algorithms, bool dry = false) {
    if (name == "cpu") return {cpu_backend(threads)};
    if (dry) return {cuda::planning_backend()};
    auto gpu = cuda::open_gpu({.fixed_algorithms = fixed_algorithms, .library_attention = !fixed_algorithms});
    return {cuda::make_backend(gpu), gpu, cuda::free_bytes(*gpu)};
}

}  // namespace plait::benchmark
