#pragma once

#include <span>

namespace plait::cuda {

/// A kernel as it was compiled. None of them has run on a GPU: what is known of them is what they give on the
/// host (tests/cuda) and what they take (target `resources`).
struct CompiledKernel {
    char const* name;                 // of the op, or of the step of one
    int threads;                      // of a block
    int shared_bytes, dynamic_bytes;  // of those, what a launch must ask for
    void const* entry;                // for cudaFuncGetAttributes and cudaLaunchKernel
};

/// All of table.cuh.
std::span<CompiledKernel const> compiled_kernels();

}  // namespace plait::cuda
