#pragma once

#include "plait/exec/kernel.hpp"

namespace plait::cuda {

/// Every op that has kernels of its own on a GPU; the others are expanded by their definitions.
KernelTable rows();

// By family, in rows/NAME.cpp: each puts a call on call.queue.
void unary(KernelCall const& call);

}  // namespace plait::cuda
