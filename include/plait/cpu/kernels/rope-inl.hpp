#pragma once

#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/ops/attention.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

PLAIT_SIMD double rope_frequency(double base, std::int64_t i, std::int64_t dim) {
    return __builtin_pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
}
PLAIT_SIMD void rope_pair(double angle, float* to) {
    to[0] = static_cast<float>(__builtin_cos(angle));
    to[1] = static_cast<float>(__builtin_sin(angle));
}

inline void rope_table(KernelCall const& call) {
    auto const& op = call.attributes<RopeTable>();
    Buffer const& y = call.out.data()[0];
    std::int64_t rows = y.meta.shape.begin()[0], half = y.meta.shape.begin()[1];
    auto* table = y.as<float>();
    // By columns: the power is dearer than the sine. The table is never split.
    run_tiles(call, half, [&](std::int64_t i, int) {
        double frequency = rope_frequency(op.base, i, op.dim);
        for (std::int64_t r = 0; r < rows; ++r)
            rope_pair(static_cast<double>(r) * frequency, table + (r * half + i) * 2);
    });
}

inline void rope_at(KernelCall const& call) {
    auto const& op = call.attributes<RopeAt>();
    auto const* positions = call.in.data()[0].as<std::int32_t const>();
    auto* rows = call.out.data()[0].as<float>();
    std::int64_t half = op.dim / 2, count = call.in.data()[0].meta.elements();
    constexpr std::int64_t cost = 64;  // of an angle, in elements that are copied
    run_items(call, half, cost * count, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
            double frequency = rope_frequency(op.base, i, op.dim);
            for (std::int64_t r = 0; r < count; ++r)
                rope_pair(static_cast<double>(positions[r]) * frequency, rows + (r * half + i) * 2);
        }
    });
}

inline void rope(KernelCall const& call) {
    bool inverse = call.attributes<Rope>().inverse;
    Buffer const &x = call.in.data()[0], &table = call.in.data()[1], &y = call.out.data()[0];
    int rank = x.meta.shape.rank();
    std::int64_t dim = x.meta.shape.begin()[rank - 1], heads = x.meta.shape.begin()[rank - 2];
    std::int64_t half = dim / 2;
    // Of the sequence, shared by the batch, or of every token.
    std::int64_t rows = elements(table.meta.shape, 0, table.meta.shape.rank() - 2);
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        run_items(call, elements(x.meta.shape, 0, rank - 2), heads * dim,
                  [&](std::int64_t begin, std::int64_t end, int) {
                      C pairs[2 * block_elements], cosine[block_elements], sine[block_elements];
                      C low[block_elements], high[block_elements], to_low[block_elements],
                          to_high[block_elements];
                      for (std::int64_t r = begin; r < end; ++r) {
                          for (std::int64_t i = 0; i < half; i += block_elements) {
                              std::int64_t n = smaller(block_elements, half - i);
                              C const* t = read<C>(operand(table), (r % rows * half + i) * 2, 2 * n, pairs);
                              for (std::int64_t j = 0; j < n; ++j) {
                                  cosine[j] = t[2 * j];
                                  sine[j] = inverse ? -t[2 * j + 1] : t[2 * j + 1];
                              }
                              for (std::int64_t h = 0; h < heads; ++h) {
                                  std::int64_t at = (r * heads + h) * dim + i;
                                  C const* a = read<C>(operand(x), at, n, low);
                                  C const* b = read<C>(operand(x), at + half, n, high);
                                  C *p = target<C>(operand(y), at, to_low),
                                    *q = target<C>(operand(y), at + half, to_high);
                                  for_lanes<C>(
                                      n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                                          auto u = load<C>(a + j, count), v = load<C>(b + j, count);
                                          auto c = load<C>(static_cast<C const*>(cosine) + j, count);
                                          auto s = load<C>(static_cast<C const*>(sine) + j, count);
                                          store<C>(p + j, u * c - v * s, count);
                                          store<C>(q + j, v * c + u * s, count);
                                      });
                                  write<C>(operand(y), at, p, n);
                                  write<C>(operand(y), at + half, q, n);
                              }
                          }
                      }
                  });
    });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
