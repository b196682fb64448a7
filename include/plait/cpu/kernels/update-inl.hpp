#pragma once

#include "plait/cpu/kernels/reduce-inl.hpp"
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

/// Squares add up in double: each tile alone, the tiles in order.
inline void sum_squares(KernelCall const& call) {
    auto* sums = reinterpret_cast<double*>(call.workspace);
    std::int64_t done = 0;
    for (std::size_t k = 0; k < call.in.size(); ++k) {
        Buffer const& x = call.in.data()[k];
        if (!is_floating(x.meta.dtype)) unsupported(call, x.meta.dtype);
        std::int64_t n = x.meta.elements();
        run_tiles(call, pieces(n, tile_elements), [&](std::int64_t t, int) {
            double scratch[block_elements], total = 0;
            std::int64_t end = smaller(n, (t + 1) * tile_elements);
            for (std::int64_t i = t * tile_elements; i < end; i += block_elements) {
                std::int64_t m = smaller(block_elements, end - i);
                double const* p = read<double>(operand(x), i, m, scratch);
                total += sum_lanes<double>(
                    m, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                        auto v = load<double>(p + j, count);
                        return v * v;
                    });
            }
            sums[done + t] = total;
        });
        done += pieces(n, tile_elements);
    }
    double total = 0;
    for (std::int64_t t = 0; t < done; ++t) total += sums[t];
    write<double>(output(call, 0), 0, &total, 1);
}
inline std::int64_t sum_squares_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    std::int64_t tiles = 0;
    for (std::size_t k = 0; k < in.size(); ++k) tiles += pieces(in.data()[k].elements(), tile_elements);
    return padded(tiles * 8);
}

inline void commit(KernelCall const& call) {
    bool ok = *call.in.data()[2].as<std::uint8_t const>() != 0;
    Buffer const& y = call.out.data()[0];
    copy_bytes(call, y.data, call.in.data()[ok ? 1 : 0].data, y.meta.bytes());
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
