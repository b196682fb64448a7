#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/kernels/many.cuh"
#include "cuda/kernels/random.cuh"

namespace plait::cuda {

/// A parameter of dtype P, its gradient G, its moments M, and where they go, which may be where they are.
template <class P, class G, class M, bool stochastic = false>
struct Parameter {
    P const* p;
    G const* g;
    M const *m, *v;
    P* to_p;
    M *to_m, *to_v;
    std::int64_t n;
    float decay;
    int first;
};
/// The same where random bits round it: who asks for them, and the elements' numbers in the logical tensor,
/// where runs of `run` elements lie `stride` apart from `start` on.
template <class P, class G, class M>
struct Parameter<P, G, M, true> : Parameter<P, G, M> {
    std::uint64_t site;
    std::int64_t start, run, stride;

    PLAIT_DEVICE std::uint64_t number(std::int64_t i) const {
        if (run >= this->n) return static_cast<std::uint64_t>(start + i);
        auto row = quotient(i, run);
        return static_cast<std::uint64_t>(start + row * stride + (i - row * run));
    }
    /// Whether packs, which are a whole number of fours, are runs that start at a multiple of four.
    PLAIT_DEVICE bool packed(int lanes) const {
        return start % 4 == 0 && (run >= this->n || (stride % 4 == 0 && run % lanes == 0));
    }
};

/// One AdamW step of many parameters: ops/update.hpp. Rate, step, clipping factor, guard and key are read
/// from device memory, so that a recording serves every step.
template <class P, class G, class M, bool stochastic = false>
struct AdamW {
    static constexpr char const* name = "adamw";
    static constexpr int threads = 256;
    /// As many as make 16 bytes of the widest type.
    static constexpr int lanes = sizeof(P) + sizeof(G) + sizeof(M) == 6 ? 8 : 4;
    struct Shared {
        float correction[2];
    };

    float const* rate;
    std::int32_t const* step;   // counts from 1
    float const* scale;         // multiplies gradients; null: 1
    std::uint8_t const* guard;  // 0: everything stays as it is; null: 1
    std::int32_t const* key;    // seed and step of the random bits; null unless `stochastic`
    double beta1, beta2;
    float eps;
    // Parts are multiples of 16 bytes.
    Many<Parameter<P, G, M, stochastic>, stochastic ? 312 : 448, 4096> parameters;

    std::int64_t blocks() const { return parameters.blocks; }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        auto const& one = parameters.of_block(block.index());
        auto begin = static_cast<std::int64_t>(block.index() - one.first) * parameters.part;
        int count = static_cast<int>(smaller<std::int64_t>(parameters.part, one.n - begin));
        if (guard && *guard == 0) {
            keep(block, one.to_p + begin, one.p + begin, count);
            keep(block, one.to_m + begin, one.m + begin, count);
            keep(block, one.to_v + begin, one.v + begin, count);
            return;
        }
        if (block.thread() % warp_size == 0 && block.thread() < 2 * warp_size) {
            int which = block.thread() / warp_size;  // in f64: 1 - beta^step cancels in f32
            shared.correction[which] = static_cast<float>(1 / (1 - power(which ? beta2 : beta1, *step)));
        }
        block.barrier();
        float c1 = shared.correction[0], c2 = shared.correction[1];
        float factor = scale ? *scale : 1.0f, r = *rate;
        auto b1 = static_cast<float>(beta1), b2 = static_cast<float>(beta2);
        auto rest1 = static_cast<float>(1 - beta1), rest2 = static_cast<float>(1 - beta2);
        bool wide = aligned(one.p + begin, one.g + begin, one.m + begin, one.v + begin, one.to_p + begin,
                            one.to_m + begin, one.to_v + begin);
        [[maybe_unused]] bool packed = false;
        if constexpr (stochastic) packed = one.packed(lanes);
        for (int i = block.thread() * lanes; i < count; i += threads * lanes) {
            int left = count - i;
            auto at = begin + i;
            auto p = Pack<P, lanes>::load(one.p + at, left, wide);
            auto g = Pack<G, lanes>::load(one.g + at, left, wide);
            auto m = Pack<M, lanes>::load(one.m + at, left, wide),
                 v = Pack<M, lanes>::load(one.v + at, left, wide);
            float to_p[lanes], to_m[lanes], to_v[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) {
                float d = g[j] * factor;
                to_m[j] = b1 * m[j] + rest1 * d;
                to_v[j] = b2 * v[j] + rest2 * (d * d);
                to_p[j] = p[j] - r * (to_m[j] * c1 / (sqrtf(to_v[j] * c2) + eps) + one.decay * p[j]);
            }
            // Before the random bits, which want their registers.
            Pack<M, lanes>(to_m).store(one.to_m + at, left, wide);
            Pack<M, lanes>(to_v).store(one.to_v + at, left, wide);
            if constexpr (stochastic) {
                static_assert(lanes % 4 == 0 && sizeof(P) == 2);
                RandomKey random(key, one.site);
                if (packed) random.apply(one.number(at), to_p, RoundedAtRandom{});
                else
                    random.apply_each([&](int j) { return one.number(at + j); }, left, to_p,
                                      RoundedAtRandom{});
            }
            Pack<P, lanes>(to_p).store(one.to_p + at, left, wide);
        }
    }

  private:
    template <class T>
    PLAIT_DEVICE static void keep(Block const& block, T* to, T const* from, int count) {
        if (to == from) return;
        bool wide = aligned(to, from);
        for (int i = block.thread() * lanes; i < count; i += threads * lanes)
            Pack<T, lanes>::load(from + i, count - i, wide).store(to + i, count - i, wide);
    }
};

}  // namespace plait::cuda
