#pragma once

#include "plait/exec/backend.hpp"

#include <memory>
#include <string>

namespace plait::cuda {

/// A GPU that this process has taken, or what stands in for one (cuda/machine.hpp).
class Machine;

struct GpuOptions {
    int device = 0;  // of those that CUDA shows to this process
    /// Products go by a fixed rule, not by what was fastest when it was tried: bits that do not depend on a
    /// clock, as bits = "layout" wants.
    bool fixed_algorithms = false;
    /// Products of f32 may round their factors to 10 bits.
    bool tf32 = false;
    /// Attention by cuDNN, where this was built with it and it takes the shape.
    bool library_attention = true;
    /// A stream notes where it is each time that these many instructions have passed, in a recorded step four
    /// times as many: that is how closely a fault is placed.
    int instructions_per_mark = 16;
};

/// Whether this library was built with CUDA (PLAIT_CUDA). The rest is always compiled, in target plait::cuda.
bool available();
/// GPUs that CUDA shows; 0 without CUDA or a driver.
int gpu_count();

/// Throws UsageError, with the fix, where there is no such GPU, its driver is too old for this CUDA, this
/// library has no code for its architecture, or was built without CUDA.
std::shared_ptr<Machine> open_gpu(GpuOptions options = {});
/// "NVIDIA H100 80GB HBM3", for people.
std::string description(Machine const& gpu);
std::int64_t free_bytes(Machine const& gpu);

/// Tokens of a chunk of the chunked loss: every chunk reads and writes the whole gradient of the output
/// weight, so a GPU wants few.
inline constexpr std::int64_t loss_chunk = 8192;

struct BackendOptions {
    /// Every step is asked for anew, and the GPU is waited for after every op, so that a fault names it.
    bool sync = false;
};

/// Runs programs on a GPU, from their second step on as one CUDA graph a step.
std::shared_ptr<Backend> make_backend(std::shared_ptr<Machine> gpu, BackendOptions options = {});

/// What programs for a GPU are compiled against where there is none: to see what they would take. It has no
/// memory: an Error says so.
std::shared_ptr<Backend> planning_backend();

}  // namespace plait::cuda
