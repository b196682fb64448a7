#pragma once

#include "plait/cpu/kernels/reduce-inl.hpp"
#include "plait/ops/gradient_norm.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// Calls f(T{}) with the type that a floating tensor is stored in; throws Error for others.
template <class F>
void with_stored_type(KernelCall const& call, Buffer const& x, F&& f) {
    switch (x.meta.dtype) {
        case DType::f32:
            return f(float{});
        case DType::bf16:
            return f(Bf16{});
        case DType::f64:
            return f(double{});
        default:
            unsupported(call, x.meta.dtype);
    }
}

inline void max_absolute(KernelCall const& call) {
    Buffer const& x = call.in.data()[0];
    std::int64_t n = x.meta.elements(), tiles = pieces(n, tile_elements);
    with_stored_type(call, x, [&](auto stored) {
        using T = decltype(stored);
        using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
        auto* most = reinterpret_cast<C*>(call.workspace);
        run_tiles(call, tiles, [&](std::int64_t t, int) {
            T const* p = x.as<T const>() + t * tile_elements;
            most[t] = fold_lanes<C>(
                smaller(tile_elements, n - t * tile_elements), C(0),
                [&](std::int64_t i, auto count)
                    __attribute__((always_inline)) { return absolute(load<C>(p + i, count)); },
                Greater{});
        });
        C total = 0;
        for (std::int64_t t = 0; t < tiles; ++t)
            if (!(most[t] <= total) && total == total) total = most[t];
        // One NaN of many: another would show which block was looked at first.
        if (total != total) total = std::numeric_limits<C>::quiet_NaN();
        write<C>(output(call, 0), 0, &total, 1);
    });
}
inline std::int64_t max_absolute_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return padded(pieces(in.data()[0].elements(), tile_elements) * 8);
}

inline bool is_scale(double m) { return m != 0 && __builtin_isfinite(m); }

/// Adds 2^52 + 2^51, after which a double's last bits are v rounded to the nearest integer: quicker than a
/// conversion, which most instruction sets lack.
struct Rounded {
    static constexpr double shift = 6755399441055744.0;
    Doubles shifted;

    PLAIT_SIMD explicit Rounded(Doubles v) : shifted(v + shift) {}
    PLAIT_SIMD Doubles number() const { return shifted - shift; }
    PLAIT_SIMD Longs integer() const { return (Longs)shifted - (Longs)splat<Doubles>(shift); }
};

inline void squares(KernelCall const& call) {
    Buffer const& x = call.in.data()[0];
    auto* sums = call.out.data()[0].as<std::int64_t>();
    auto* parts = reinterpret_cast<std::int64_t*>(call.workspace);
    std::int64_t n = x.meta.elements(), tiles = pieces(n, tile_elements);
    double m = scalar(call.in.data()[1]);
    sums[0] = sums[1] = 0;
    if (!is_scale(m)) return;
    int e = 0;
    __builtin_frexp(m, &e);
    // Two factors: 2^-e may be too large for a double.
    double down = __builtin_ldexp(1, -(e / 2)), further = __builtin_ldexp(1, e / 2 - e),
           unit = __builtin_ldexp(1, call.attributes<Squares>().bits);
    with_stored_type(call, x, [&](auto stored) {
        using T = decltype(stored);
        run_tiles(call, tiles, [&](std::int64_t t, int) {
            T const* p = x.as<T const>() + t * tile_elements;
            Longs hi{}, lo{};
            for_lanes<double>(
                smaller(tile_elements, n - t * tile_elements), [&](std::int64_t i, auto count) __attribute__((
                                                                   always_inline)) {
                    Doubles y = load<double>(p + i, count) * down * further;
                    Doubles v = y * y * unit;
                    Rounded whole(v), rest((v - whole.number()) * unit);
                    hi += whole.integer();
                    lo += rest.integer();
                });
            parts[2 * t] = fold<Longs>(hi, Plus{});
            parts[2 * t + 1] = fold<Longs>(lo, Plus{});
        });
    });
    for (std::int64_t t = 0; t < tiles; ++t) sums[0] += parts[2 * t], sums[1] += parts[2 * t + 1];
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
