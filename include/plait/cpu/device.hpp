#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/backend.hpp"

#include <memory>

namespace plait::cpu {

/// The CPU as a backend: the kernels of the best instruction set found, over a pool of `threads` workers (0:
/// all cores).
std::shared_ptr<Backend> make_backend(int threads = 0);

}  // namespace plait::cpu

#ifdef PLAIT_HEADER_ONLY
#include "plait/cpu/device-inl.hpp"
#endif
