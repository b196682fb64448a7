#pragma once

#include "plait/cpu/kernels/view-inl.hpp"
#include "plait/graph/micro.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// Copies a block between its own buffer and its place in the whole along `dim`.
inline void copy_block(KernelCall const& call, Buffer const& whole, Buffer const& block, int dim, bool out) {
    std::int64_t step = step_bytes(block.meta, dim), own = block.meta.shape.begin()[dim] * step;
    std::int64_t row = whole.meta.shape.begin()[dim] * step, rows = elements(block.meta.shape, 0, dim);
    std::byte* place = whole.data + block.block.origin.begin()[dim] * step;
    if (out) copy_rows(call, place, row, block.data, own, rows, own);
    else copy_rows(call, block.data, own, place, row, rows, own);
}

inline void micro_take(KernelCall const& call) {
    copy_block(call, call.in.data()[0], call.out.data()[0], call.attributes<MicroTake>().dim, false);
}

inline void micro_stack(KernelCall const& call) {
    copy_block(call, call.out.data()[0], call.in.data()[0], call.attributes<MicroStack>().dim, true);
}

inline void micro_sum(KernelCall const& call) {
    Buffer const &x = call.in.data()[0], &total = call.out.data()[0];
    if (!(call.accumulate & 1)) return copy_bytes(call, total.data, x.data, x.meta.bytes());
    with_compute_type(total.meta.dtype, x.meta.dtype, [&](auto zero) {
        map<decltype(zero), 2, 1>(
            call, {operand(total), operand(x)}, {operand(total)},
            total.meta.elements(), [=](auto const& a, auto& b) __attribute__((always_inline)) {
                b[0] = a[0] + a[1];
            });
    });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
