#pragma once

#include "cuda/machine.hpp"

#include <memory>

namespace plait::cuda {

struct GpuOptions {
    int device = 0;  // of those that CUDA shows to this process
    /// Products take an algorithm by a rule, the same one wherever a shape is met, and none that divides the
    /// summed dim; else by time, from a few that cuBLASLt proposes.
    bool fixed_algorithms = false;
    /// Products of f32 may round their factors to 10 bits.
    bool tf32 = false;
    /// Attention by cuDNN where it takes the shape.
    bool library_attention = true;
    /// A stream notes which op it is at each time that these many instructions have passed; 1: always.
    int ops_per_mark = 16;
};

/// A GPU of this process. Throws UsageError, of one line with the fix, where there is no GPU or driver, the
/// driver is too old, or the kernels were not built for its architecture.
std::shared_ptr<Machine> make_gpu(GpuOptions options = {});
/// How many GPUs CUDA shows to this process; 0 where it has none or no driver.
int gpu_count();

}  // namespace plait::cuda
