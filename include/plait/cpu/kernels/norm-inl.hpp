#pragma once

#include "plait/cpu/kernels/reduce-inl.hpp"
#include "plait/cpu/kernels/rows-inl.hpp"
#include "plait/ops/norm.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// Layer norm (`centred`) and RMS norm, of x or of x plus a residual.
template <class C, bool centred>
void norm_forward(KernelCall const& call, double eps, bool residual) {
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    Rows<C> rows(x.meta.shape, call.workspace + 2 * padded(x.meta.shape.back() * 8), 3);
    std::int64_t n = rows.n;
    auto* constants = reinterpret_cast<C*>(call.workspace);
    C const* gain = read<C>(input(call, 1 + residual), 0, n, constants);
    C const* bias =
        centred ? read<C>(input(call, 2 + residual), 0, n, constants + padded(n * 8) / sizeof(C)) : nullptr;
    auto* means = centred ? call.out.data()[1].as<C>() : nullptr;
    auto* rstds = call.out.data()[centred ? 2 : 1].as<C>();
    run_items(call, rows.count, n, [&](std::int64_t begin, std::int64_t end, int worker) {
        for (std::int64_t r = begin; r < end; ++r) {
            C const* a = read<C>(operand(x), r * n, n, rows.scratch(worker, 0));
            if (residual) {
                Operand to = output(call, centred ? 3 : 2);
                C const* b = read<C>(input(call, 1), r * n, n, rows.scratch(worker, 1));
                C* s = target<C>(to, r * n, rows.scratch(worker, 2));
                for_lanes<C>(
                    n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                        store<C>(s + i, load<C>(a + i, count) + load<C>(b + i, count), count);
                    });
                write<C>(to, r * n, s, n);
                a = read<C>(to, r * n, n, rows.scratch(worker, 0));  // rounded as it is stored
            }
            C mean = 0;
            if constexpr (centred)
                means[r] = mean =
                    sum_lanes<C>(
                        n, [&](std::int64_t i, auto count)
                               __attribute__((always_inline)) { return load<C>(a + i, count); }) /
                    C(n);
            C square = sum_lanes<C>(
                n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                    auto v = load<C>(a + i, count) - mean;
                    return v * v;
                });
            C rstd = C(1) / sqrt(splat<Vector<C>>(square / C(n) + C(eps)))[0];
            rstds[r] = rstd;
            C* b = target<C>(operand(y), r * n, rows.scratch(worker, 1));
            for_lanes<C>(
                n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                    auto v = (load<C>(a + i, count) - mean) * rstd * load<C>(gain + i, count);
                    if constexpr (centred) v = v + load<C>(bias + i, count);
                    store<C>(b + i, v, count);
                });
            write<C>(operand(y), r * n, b, n);
        }
    });
}

/// Rows whose contributions to dgain and dbias are added up before the tiles' sums are, in order.
PLAIT_SIMD std::int64_t norm_tile(std::int64_t rows) { return larger(8, pieces(rows, 64)); }

template <class C, bool centred>
void norm_backward(KernelCall const& call, bool residual) {
    Buffer const &dy = call.in.data()[0], &dx = call.out.data()[0];
    constexpr int sums = centred ? 2 : 1;  // dgain, dbias
    std::int64_t n = dy.meta.shape.back(), row = padded(n * 8);
    Rows<C> rows(dy.meta.shape, call.workspace + row, 4);
    std::int64_t tile = norm_tile(rows.count), tiles = pieces(rows.count, tile);
    int workers = call.pool ? call.pool->workers() : 1;
    std::byte* partials = rows.workspace + workers * 4 * row;
    auto partial = [&](std::int64_t t, int k) {
        return reinterpret_cast<C*>(partials + (t * sums + k) * row);
    };

    C const* gain = read<C>(input(call, 2), 0, n, reinterpret_cast<C*>(call.workspace));
    auto const* means = centred ? call.in.data()[3].as<C const>() : nullptr;
    auto const* rstds = call.in.data()[centred ? 4 : 3].as<C const>();
    run_tiles(call, tiles, [&](std::int64_t t, int worker) {
        C *dgain = partial(t, 0), *dbias = partial(t, sums - 1);
        std::memset(dgain, 0, static_cast<std::size_t>(n) * sizeof(C));
        std::memset(dbias, 0, static_cast<std::size_t>(n) * sizeof(C));
        for (std::int64_t r = t * tile; r < smaller(rows.count, (t + 1) * tile); ++r) {
            C const* d = read<C>(operand(dy), r * n, n, rows.scratch(worker, 0));
            C const* x = read<C>(input(call, 1), r * n, n, rows.scratch(worker, 1));
            C const* extra =
                residual ? read<C>(input(call, centred ? 5 : 4), r * n, n, rows.scratch(worker, 2)) : nullptr;
            C* y = target<C>(operand(dx), r * n, rows.scratch(worker, 3));
            C mean = centred ? means[r] : C(0), rstd = rstds[r], shift = 0;
            C slope = sum_lanes<C>(
                          n,
                          [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                              return load<C>(d + i, count) * load<C>(gain + i, count) *
                                     ((load<C>(x + i, count) - mean) * rstd);
                          }) /
                      C(n);
            if constexpr (centred)
                shift =
                    sum_lanes<C>(
                        n, [&](std::int64_t i, auto count) __attribute__((
                               always_inline)) { return load<C>(d + i, count) * load<C>(gain + i, count); }) /
                    C(n);
            for_lanes<C>(
                n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                    auto dv = load<C>(d + i, count), xhat = (load<C>(x + i, count) - mean) * rstd;
                    auto v = rstd * (dv * load<C>(gain + i, count) - shift - xhat * slope);
                    if (residual) v = v + load<C>(extra + i, count);
                    store<C>(dgain + i, load<C>(static_cast<C const*>(dgain) + i, count) + dv * xhat, count);
                    if constexpr (centred)
                        store<C>(dbias + i, load<C>(static_cast<C const*>(dbias) + i, count) + dv, count);
                    store<C>(y + i, v, count);
                });
            write<C>(operand(dx), r * n, y, n);
        }
    });
    run_items(call, pieces(n, block_elements), tiles * block_elements,
              [&](std::int64_t begin, std::int64_t end, int) {
                  for (std::int64_t i = begin * block_elements; i < smaller(n, end * block_elements);
                       i += block_elements) {
                      std::int64_t m = smaller(block_elements, n - i);
                      for (int k = 0; k < sums; ++k) {
                          C acc[block_elements] = {};
                          Operand from{partials + k * row, dtype_of<C>};
                          fold_rows<C>(acc, from, i, tiles, sums * row / static_cast<std::int64_t>(sizeof(C)),
                                       m, Plus{});
                          emit<C>(output(call, 1 + k), i, acc, m, call.accumulate >> (1 + k) & 1);
                      }
                  }
              });
}

inline void layer_norm(KernelCall const& call) {
    auto const& op = call.attributes<LayerNorm>();
    with_floating_type(call, call.in.data()[0],
                       [&](auto zero) { norm_forward<decltype(zero), true>(call, op.eps, op.residual); });
}
inline void rms_norm(KernelCall const& call) {
    auto const& op = call.attributes<RmsNorm>();
    with_floating_type(call, call.in.data()[0],
                       [&](auto zero) { norm_forward<decltype(zero), false>(call, op.eps, op.residual); });
}
inline std::int64_t norm_workspace(AnyOp const&, Metas const& in, Metas const&, int workers) {
    return rows_workspace(in.data()[0], 1, 2) + rows_workspace(in.data()[0], workers, 3);
}

inline void layer_norm_gradient(KernelCall const& call) {
    bool residual = call.attributes<LayerNormGradient>().residual;
    with_floating_type(call, call.in.data()[0],
                       [&](auto zero) { norm_backward<decltype(zero), true>(call, residual); });
}
inline void rms_norm_gradient(KernelCall const& call) {
    bool residual = call.attributes<RmsNormGradient>().residual;
    with_floating_type(call, call.in.data()[0],
                       [&](auto zero) { norm_backward<decltype(zero), false>(call, residual); });
}
inline std::int64_t norm_gradient_workspace(AnyOp const&, Metas const& in, Metas const& out, int workers) {
    Meta const& x = in.data()[0];
    std::int64_t count = elements(x.shape, 0, x.shape.rank() - 1);
    auto tiles = static_cast<int>(pieces(count, norm_tile(count)));
    return rows_workspace(x, 1, 1) + rows_workspace(x, workers, 4) +
           rows_workspace(x, tiles, static_cast<int>(out.size()) - 1);
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
