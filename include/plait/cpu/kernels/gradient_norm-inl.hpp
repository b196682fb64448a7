#pragma once

#include "plait/cpu/kernels/reduce-inl.hpp"
#include "plait/ops/gradient_norm.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// Calls f(p, count) for runs of tile `t` of x, in the compute type.
template <class C, class F>
void for_blocks(Operand x, std::int64_t n, std::int64_t t, F&& f) {
    alignas(64) C scratch[block_elements];
    std::int64_t end = smaller(n, (t + 1) * tile_elements);
    for (std::int64_t i = t * tile_elements; i < end; i += block_elements) {
        std::int64_t m = smaller(block_elements, end - i);
        f(read<C>(x, i, m, scratch), m);
    }
}

inline void max_absolute(KernelCall const& call) {
    Buffer const& x = call.in.data()[0];
    std::int64_t n = x.meta.elements(), tiles = pieces(n, tile_elements);
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        auto* most = reinterpret_cast<C*>(call.workspace);
        auto greater = [](C a, C b) { return a >= b || a != a ? a : b; };
        run_tiles(call, tiles, [&](std::int64_t t, int) {
            most[t] = 0;
            for_blocks<C>(operand(x), n, t, [&](C const* p, std::int64_t m) {
                C block = fold_lanes<C>(
                    m, C(0),
                    [&](std::int64_t j, auto count)
                        __attribute__((always_inline)) { return absolute(load<C>(p + j, count)); },
                    Greater{});
                most[t] = greater(most[t], block);
            });
        });
        C total = 0;
        for (std::int64_t t = 0; t < tiles; ++t) total = greater(total, most[t]);
        // One NaN of many: another would show which block was looked at first.
        if (total != total) total = std::numeric_limits<C>::quiet_NaN();
        write<C>(output(call, 0), 0, &total, 1);
    });
}
inline std::int64_t max_absolute_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return padded(pieces(in.data()[0].elements(), tile_elements) * 8);
}

inline bool is_scale(double m) { return m != 0 && __builtin_isfinite(m); }

/// v + 2^52 + 2^51, whose last bits are v rounded to the nearest integer: quicker than a conversion, which
/// most instruction sets lack.
struct Rounded {
    static constexpr double shift = 0x1.8p52;
    static constexpr std::uint64_t shift_bits = 0x4338000000000000;
    Doubles shifted;

    PLAIT_SIMD explicit Rounded(Doubles v) : shifted(v + shift) {}
    PLAIT_SIMD Doubles number() const { return shifted - shift; }
    /// The integer, and `shift_bits`, which the sum over many takes off at its end.
    PLAIT_SIMD Wide bits() const { return (Wide)shifted; }
};

inline void squares(KernelCall const& call) {
    Buffer const& x = call.in.data()[0];
    auto* sums = call.out.data()[0].as<std::int64_t>();
    auto* parts = reinterpret_cast<std::uint64_t*>(call.workspace);
    std::int64_t n = x.meta.elements(), tiles = pieces(n, tile_elements);
    double m = scalar(call.in.data()[1]);
    sums[0] = sums[1] = 0;
    if (!is_scale(m)) return;
    int e = 0, bits = call.attributes<Squares>().bits, half = bits / 2;
    __builtin_frexp(m, &e);
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        // v = (g * a) * (g * b). Doubles are scaled twice: 2^-e may be too large for one.
        constexpr bool twice = std::is_same_v<C, double>;
        int first = twice ? e / 2 : 0;
        double down = __builtin_ldexp(1, -first), unit = __builtin_ldexp(1, bits),
               a = __builtin_ldexp(1, half - (e - first)), b = __builtin_ldexp(1, bits - half - (e - first));
        run_tiles(call, tiles, [&](std::int64_t t, int) {
            parts[2 * t] = parts[2 * t + 1] = 0;
            for_blocks<C>(operand(x), n, t, [&](C const* p, std::int64_t m) {
                Wide hi{}, lo{};
                for_lanes<double>(
                    m, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                        Doubles g = load<double>(p + j, count);
                        if constexpr (twice) g = g * down;
                        Doubles v = (g * a) * (g * b);
                        Rounded whole(v), rest((v - whole.number()) * unit);
                        hi += whole.bits();
                        lo += rest.bits();
                    });
                auto terms = static_cast<std::uint64_t>(pieces(m, lanes<double>) * lanes<double>);
                parts[2 * t] += fold<Wide>(hi, Plus{}) - terms * Rounded::shift_bits;
                parts[2 * t + 1] += fold<Wide>(lo, Plus{}) - terms * Rounded::shift_bits;
            });
        });
    });
    std::uint64_t total[2] = {};
    for (std::int64_t t = 0; t < 2 * tiles; ++t) total[t % 2] += parts[t];
    for (int i = 0; i < 2; ++i) sums[i] = static_cast<std::int64_t>(total[i]);
}
inline std::int64_t squares_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return padded(pieces(in.data()[0].elements(), tile_elements) * 16);
}

inline void norm_of_squares(KernelCall const& call) {
    auto const* sums = call.in.data()[0].as<std::int64_t const>();
    int bits = call.attributes<NormOfSquares>().bits;
    double norm = scalar(call.in.data()[1]);
    if (is_scale(norm)) {
        int e = 0;
        __builtin_frexp(norm, &e);
        double hi = static_cast<double>(sums[0]), lo = static_cast<double>(sums[1]);
        norm = __builtin_sqrt(__builtin_ldexp(hi + __builtin_ldexp(lo, -bits), -bits));
        norm = __builtin_ldexp(norm, e);
    }
    write<double>(output(call, 0), 0, &norm, 1);
}

template <class C, class Combine>
void fold_inputs(KernelCall const& call, Combine combine) {
    std::int64_t n = call.out.data()[0].meta.elements();
    int inputs = static_cast<int>(call.in.size());
    run_tiles(call, pieces(n, tile_elements), [&](std::int64_t t, int) {
        alignas(64) C total[block_elements], scratch[block_elements];
        std::int64_t end = smaller(n, (t + 1) * tile_elements);
        for (std::int64_t i = t * tile_elements; i < end; i += block_elements) {
            std::int64_t m = smaller(block_elements, end - i);
            C const* sum = read<C>(input(call, 0), i, m, total);
            for (int k = 1; k < inputs; ++k) {
                C const* p = read<C>(input(call, k), i, m, scratch);
                for_lanes<C>(
                    m, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                        store<C>(total + j, combine(load<C>(sum + j, count), load<C>(p + j, count)), count);
                    });
                sum = total;
            }
            write<C>(output(call, 0), i, sum, m);
        }
    });
}

inline void fold_tensors(KernelCall const& call) {
    auto how = call.attributes<Fold>().how;
    auto dtype = call.out.data()[0].meta.dtype;
    with_compute_type(dtype, dtype, [&](auto zero) {
        using C = decltype(zero);
        if (how == Combine::max) fold_inputs<C>(call, Greater{});
        else fold_inputs<C>(call, Plus{});
    });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
