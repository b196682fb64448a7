#pragma once

#include "plait/cpu/kernels/random-inl.hpp"
#include "plait/ops/elementwise.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

inline void dropout(KernelCall const& call) {
    auto const& op = call.attributes<Dropout>();
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        // uniform(word) >= rate, as whole numbers: to_uniform keeps 24 bits.
        C least = C(__builtin_ceil(op.rate * 0x1p24)), scale = C(1 / (1 - op.rate));
        for_random_runs(
            call, call.in.data()[1], op.site, y, [&](std::int64_t i, std::int64_t n, std::int32_t const* w) {
                alignas(64) C scratch[2][block_elements];
                C const* a = read<C>(operand(x), i, n, scratch[0]);
                C* b = target<C>(operand(y), i, scratch[1]);
                for_lanes<C>(
                    n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                        auto keeps = load<C>(w + j, count) >= least;
                        store<C>(b + j, select<Vector<C>>(keeps, load<C>(a + j, count) * scale, Vector<C>{}),
                                 count);
                    });
                write<C>(operand(y), i, b, n);
            });
    });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
