#pragma once

#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/ops/update.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

inline void adamw(KernelCall const& call) {
    auto const& op = call.attributes<AdamWUpdate>();
    Buffer const* in = call.in.data();
    std::int64_t n = in[0].meta.elements();
    if (op.guarded && *in[6 + op.scaled].as<std::uint8_t const>() == 0) {
        for (int i = 0; i < 3; ++i) {
            Buffer const &old = in[i ? i + 1 : 0], &y = call.out.data()[i];
            copy_bytes(call, y.data, old.data, y.meta.bytes());
        }
        return;
    }
    auto step = static_cast<double>(*in[5].as<std::int32_t const>());
    double scale = op.scaled ? scalar(in[6]) : 1, rate = scalar(in[4]);
    double correction1 = 1 - __builtin_pow(op.beta1, step), correction2 = 1 - __builtin_pow(op.beta2, step);
    with_floating_type(call, in[0], [&](auto zero) {
        using C = decltype(zero);
        C g_scale = C(scale), b1 = C(op.beta1), b2 = C(op.beta2), r1 = C(1 - op.beta1), r2 = C(1 - op.beta2);
        C c1 = C(1 / correction1), c2 = C(1 / correction2), eps = C(op.eps), decay = C(op.decay),
          rate_ = C(rate);
        map<C, 4, 3>(
            call, {operand(in[0]), operand(in[1]), operand(in[2]), operand(in[3])},
            {output(call, 0), output(call, 1), output(call, 2)},
            n, [=](auto const& a, auto& b) __attribute__((always_inline)) {
                auto g = a[1] * g_scale;
                auto m = b1 * a[2] + r1 * g, v = b2 * a[3] + r2 * (g * g);
                b[0] = a[0] - rate_ * (m * c1 / (sqrt(v * c2) + eps) + decay * a[0]);
                b[1] = m;
                b[2] = v;
            });
    });
}

inline void commit(KernelCall const& call) {
    bool ok = *call.in.data()[2].as<std::uint8_t const>() != 0;
    Buffer const& y = call.out.data()[0];
    copy_bytes(call, y.data, call.in.data()[ok ? 1 : 0].data, y.meta.bytes());
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
