#pragma once

#include "cuda/queue.hpp"
#include "plait/exec/kernel.hpp"

namespace plait::cuda {

/// Every op that a GPU has kernels for; the others are expanded by their definitions.
KernelTable rows();

[[noreturn]] void unsupported(KernelCall const& call, DType dtype);

// By family, in rows/NAME.cpp: what a call of an op puts on call.queue.

// view.cpp
void reshape(KernelCall const& call);

}  // namespace plait::cuda
