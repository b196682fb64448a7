#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/backend.hpp"
#include "plait/exec/program.hpp"

namespace plait {

/// Floating-point operations of one run of a program on this rank, by the ops' cost(); those that recompute
/// what forward had are left out, so that MFU does not rise with them.
double program_flops(Program const& program);

/// Floating-point operations a second of a square product of `dtype` by all workers of a backend: the fastest
/// of several within about `seconds`, and of two at least. What MFU is a part of. Takes some MiB meanwhile.
double matmul_rate(Backend& backend, DType dtype, double seconds = 0.1);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/speed-inl.hpp"
#endif
