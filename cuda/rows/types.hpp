#pragma once

#include "cuda/device/pack.cuh"
#include "cuda/rows.hpp"

namespace plait::cuda {

/// f(Bf16()) or f(float()), as a tensor's dtype asks.
template <class F>
void with_type(KernelCall const& call, DType dtype, F&& f) {
    if (dtype == bf16) f(Bf16());
    else if (dtype == f32) f(float());
    else unsupported(call, dtype);
}

/// A multiple of 256, so that what follows in a workspace is aligned too.
inline std::int64_t padded(std::int64_t bytes) { return pieces(bytes, 256) * 256; }

/// Elements of all dims but the last `n`.
inline std::int64_t leading_elements(Shape const& s, int n = 1) { return s.leading(s.rank() - n).elements(); }

/// The part of a dim that a block of a tensor has.
struct Part {
    std::int64_t origin = 0, size, all;

    Part(Buffer const& x, int dim) : size(x.meta.shape[dim]), all(size) {
        if (x.block.logical.empty()) return;
        origin = x.block.origin[dim];
        all = x.block.logical[dim];
    }
};

}  // namespace plait::cuda
