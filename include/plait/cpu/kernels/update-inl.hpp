#pragma once

#include "plait/cpu/kernels/random-inl.hpp"
#include "plait/ops/update.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

inline void adamw(KernelCall const& call) {
    auto const& op = call.attributes<AdamWUpdate>();
    Buffer const* in = call.in.data();
    std::int64_t n = in[0].meta.elements();
    if (op.guarded && *in[op.guard_input()].as<std::uint8_t const>() == 0) {
        for (int i = 0; i < 3; ++i) {
            Buffer const &old = in[i ? i + 1 : 0], &y = call.out.data()[i];
            copy_bytes(call, y.data, old.data, y.meta.bytes());
        }
        return;
    }
    auto step = static_cast<double>(*in[5].as<std::int32_t const>());
    double scale = op.scaled ? scalar(in[op.scale_input()]) : 1, rate = scalar(in[4]);
    double correction1 = 1 - __builtin_pow(op.beta1, step), correction2 = 1 - __builtin_pow(op.beta2, step);
    with_floating_type(call, in[0], [&](auto zero) {
        using C = decltype(zero);
        C g_scale = C(scale), b1 = C(op.beta1), b2 = C(op.beta2), r1 = C(1 - op.beta1), r2 = C(1 - op.beta2);
        C c1 = C(1 / correction1), c2 = C(1 / correction2), eps = C(op.eps), decay = C(op.decay),
          rate_ = C(rate);
        auto next = [=](auto const& a, auto& b) __attribute__((always_inline)) {
            auto g = a[1] * g_scale;
            auto m = b1 * a[2] + r1 * g, v = b2 * a[3] + r2 * (g * g);
            b[0] = a[0] - rate_ * (m * c1 / (sqrt(v * c2) + eps) + decay * a[0]);
            b[1] = m;
            b[2] = v;
        };
        Buffer const* out = call.out.data();
        if constexpr (sizeof(C) == sizeof(float))
            if (op.stochastic && in[0].meta.dtype == DType::bf16) {
                for_random_runs(call, in[6], op.site, out[0],
                                [&](std::int64_t i, std::int64_t n, std::int32_t const* words) {
                                    alignas(64) float p[block_elements];
                                    auto from = [i](Buffer const& x) {
                                        return Operand{x.data + bytes_of(x.meta.dtype, i), x.meta.dtype};
                                    };
                                    Operand wide{reinterpret_cast<std::byte*>(p), DType::f32};
                                    map_range<float, 4, 3>(
                                        {from(in[0]), from(in[1]), from(in[2]), from(in[3])},
                                        {wide, from(out[1]), from(out[2])}, 0, n, next);
                                    round_at_random(p, p, words, n);
                                    write<float>(from(out[0]), 0, p, n);
                                });
                return;
            }
        map<C, 4, 3>(call, {operand(in[0]), operand(in[1]), operand(in[2]), operand(in[3])},
                     {operand(out[0]), operand(out[1]), operand(out[2])}, n, next);
    });
}

inline void stochastic_round(KernelCall const& call) {
    Operand x = input(call, 0), y = output(call, 0);
    for_random_runs(call, call.in.data()[1], call.attributes<StochasticRound>().site, call.out.data()[0],
                    [&](std::int64_t i, std::int64_t n, std::int32_t const* words) {
                        alignas(64) float scratch[2][block_elements];
                        round_at_random(scratch[1], read<float>(x, i, n, scratch[0]), words, n);
                        write<float>(y, i, scratch[1], n);
                    });
}

inline void commit(KernelCall const& call) {
    bool ok = *call.in.data()[2].as<std::uint8_t const>() != 0;
    Buffer const& y = call.out.data()[0];
    copy_bytes(call, y.data, call.in.data()[ok ? 1 : 0].data, y.meta.bytes());
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
