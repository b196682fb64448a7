#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/team.cuh"
#include "cuda/kernels/many.cuh"

namespace plait::cuda {

/// A gradient and what is made of it.
template <class T, class Out>
struct Gradient {
    T const* g;
    Out* out;
    std::int64_t n;
    int first;
};

/// Raises each *out to the bits of the largest |g|, an f32: MaxAbsolute in ops/gradient_norm.hpp. *out is 0
/// before.
template <class T>
struct MaxAbsolute {
    static constexpr char const* name = "max_absolute";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = TeamValues<std::uint32_t, threads>;

    Many<Gradient<T, std::uint32_t>, 1000, 8192> gradients;

    std::int64_t blocks() const { return gradients.blocks; }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        auto const& one = gradients.of_block(block.index());
        auto begin = static_cast<std::int64_t>(block.index() - one.first) * gradients.part;
        int count = static_cast<int>(smaller<std::int64_t>(gradients.part, one.n - begin));
        T const* from = one.g + begin;
        bool wide = aligned(from);
        std::uint32_t largest = 0;
        for (int i = block.thread() * lanes; i < count; i += threads * lanes) {
            auto g = Pack<T>::load(from + i, count - i, wide);
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) {
                auto bits = magnitude_bits(g[j]);
                largest = largest < bits ? bits : largest;
            }
        }
        largest = team_fold<Largest>(block, shared, largest, true);
        if (block.thread() == 0) block.atomic_max(one.out, largest);
    }
};

/// Adds the squares of each gradient to two integers, out[0] and out[1], at the exponent of *m: Squares in
/// ops/gradient_norm.hpp, to the bit, whatever the order of blocks. `out` is zero before.
template <class T>
struct Squares {
    static constexpr char const* name = "squares";
    static constexpr int threads = 256, lanes = Pack<T>::lanes, warps = threads / warp_size;
    struct Shared {
        std::uint64_t hi[warps], lo[warps];
    };

    float const* m;  // at least every |g|
    int bits;
    Many<Gradient<T, std::int64_t>, 1000, 8192> gradients;

    std::int64_t blocks() const { return gradients.blocks; }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        float scale = *m;
        if (!is_scale(scale)) return;
        int e = exponent_above(scale);
        auto const& one = gradients.of_block(block.index());
        auto begin = static_cast<std::int64_t>(block.index() - one.first) * gradients.part;
        int count = static_cast<int>(smaller<std::int64_t>(gradients.part, one.n - begin));
        T const* from = one.g + begin;
        bool wide = aligned(from);
        SquareWords words(e, bits);
        std::uint64_t hi = 0, lo = 0;
        for (int i = block.thread() * lanes; i < count; i += threads * lanes) {
            auto g = Pack<T>::load(from + i, count - i, wide);
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) words.add(g[j], hi, lo);
            hi -= lanes * SquareWords::surplus, lo -= lanes * SquareWords::surplus;
        }
        PLAIT_UNROLL
        for (int mask = warp_size / 2; mask > 0; mask /= 2) {
            hi += block.shuffle_xor(hi, mask);
            lo += block.shuffle_xor(lo, mask);
        }
        if (block.thread() % warp_size == 0) {
            shared.hi[block.thread() / warp_size] = hi;
            shared.lo[block.thread() / warp_size] = lo;
        }
        block.barrier();
        if (block.thread() >= 2) return;
        auto const& parts = block.thread() ? shared.lo : shared.hi;
        std::uint64_t total = 0;
        for (auto part : parts) total += part;
        block.atomic_add(one.out + block.thread(), static_cast<std::int64_t>(total));
    }
};

/// The norm that the squares mean: NormOfSquares in ops/gradient_norm.hpp.
struct NormOfSquares {
    static constexpr char const* name = "norm_of_squares";
    static constexpr int threads = warp_size;
    using Shared = NoShared;

    std::int64_t const* sums;  // [2]
    float const* m;
    float* norm;
    int bits;

    std::int64_t blocks() const { return 1; }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        if (block.thread() != 0) return;
        if (!is_scale(*m)) {
            *norm = *m;
            return;
        }
        auto hi = static_cast<double>(sums[0]), lo = static_cast<double>(sums[1]);
        double unit = 1.0 / static_cast<double>(std::int64_t{1} << bits);
        double root = ::sqrt((hi + lo * unit) * unit);
        // In two factors: 2^e may be no float where m is the largest or a denormal.
        int e = exponent_above(*m), half = e / 2;
        *norm = static_cast<float>(root * power_of_two(half) * power_of_two(e - half));
    }
};

}  // namespace plait::cuda
