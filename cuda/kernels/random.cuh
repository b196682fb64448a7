#pragma once

#include "cuda/device/any.cuh"

namespace plait::cuda {

/// mix of core/random.hpp.
PLAIT_BOTH std::uint64_t mixed(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/// Four random words: `philox` of core/random.hpp.
struct RandomWords {
    std::uint32_t at[4];

    PLAIT_DEVICE RandomWords(std::uint64_t index, std::uint32_t step, std::uint32_t site, std::uint64_t key)
        : at{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), step, site} {
        auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
        PLAIT_UNROLL
        for (int round = 0; round < 10; ++round) {
            std::uint64_t a = std::uint64_t{0xD2511F53u} * at[0], b = std::uint64_t{0xCD9E8D57u} * at[2];
            at[0] = static_cast<std::uint32_t>(b >> 32) ^ at[1] ^ k0;
            at[1] = static_cast<std::uint32_t>(b);
            at[2] = static_cast<std::uint32_t>(a >> 32) ^ at[3] ^ k1;
            at[3] = static_cast<std::uint32_t>(a);
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
    }
    PLAIT_DEVICE std::uint32_t operator[](int i) const {
        return i < 2 ? (i == 0 ? at[0] : at[1]) : i == 2 ? at[2] : at[3];
    }
};

/// Who asks for random words in a step: Random of core/random.hpp.
struct RandomKey {
    std::uint64_t mix;
    std::uint32_t step, site;

    /// `key` is [2]: seed and step.
    PLAIT_DEVICE RandomKey(std::int32_t const* key, std::uint64_t site_)
        : mix(mixed(static_cast<std::uint32_t>(key[0]) ^ mixed(site_))),
          step(static_cast<std::uint32_t>(key[1])),
          site(static_cast<std::uint32_t>(site_)) {}

    /// Those of the elements 4 * call, ..., 4 * call + 3.
    PLAIT_DEVICE RandomWords words(std::uint64_t call) const { return RandomWords(call, step, site, mix); }

    /// x[j] = f(word of element `first` + j, x[j]); `first` is a multiple of four.
    template <int lanes, class F>
    PLAIT_DEVICE void apply(std::uint64_t first, float (&x)[lanes], F const& f) const {
        PLAIT_UNROLL
        for (int j = 0; j < lanes; j += 4) {
            auto four = words(first / 4 + static_cast<std::uint64_t>(j / 4));
            PLAIT_UNROLL
            for (int k = 0; k < 4; ++k) x[j + k] = f(four.at[k], x[j + k]);
        }
    }
    /// The same for the first `count` elements where they lie anywhere: element j has the number number(j).
    template <int lanes, class Number, class F>
    PLAIT_DEVICE void apply_each(Number const& number, std::int64_t count, float (&x)[lanes],
                                 F const& f) const {
        // Not unrolled but for the choice of the lane, as a pack would take many times the code.
        PLAIT_UNROLL_BY(1)
        for (int j = 0; j < lanes; ++j) {
            if (j >= count) break;
            std::uint64_t at = number(j);
            auto word = words(at / 4)[static_cast<int>(at % 4)];
            PLAIT_UNROLL
            for (int k = 0; k < lanes; ++k)
                if (k == j) x[k] = f(word, x[k]);
        }
    }
};

/// x * scale where the 24 bits of an element reach `least`, else 0: Dropout of ops/elementwise.hpp.
struct Dropped {
    static constexpr char const* name = "dropout";
    std::uint32_t least;
    float scale;

    PLAIT_DEVICE float operator()(std::uint32_t word, float x) const {
        return (word >> 8) >= least ? x * scale : 0.0f;
    }
};
/// A number that bf16 has, of the two beside x: StochasticRound of ops/update.hpp.
struct RoundedAtRandom {
    static constexpr char const* name = "stochastic_round";

    PLAIT_DEVICE float operator()(std::uint32_t word, float x) const {
        auto u = __builtin_bit_cast(std::uint32_t, x);
        if ((u & 0x7fffffffu) > 0x7f800000u) return x;
        return __builtin_bit_cast(float, (u + (word >> 16)) & 0xffff0000u);
    }
};

/// y = f(word, x). The word hangs on the number of the element in the logical tensor, which `walk` tells from
/// `start` on. With `packed` the elements of a pack lie side by side there, from a multiple of four on. y may
/// be x.
template <class F, class T, class Y = T>
struct RandomMap {
    static constexpr char const* name = F::name;
    static constexpr int threads = 256, lanes = 16 / static_cast<int>(sizeof(Y));
    using Shared = NoShared;

    F f;
    T const* x;
    Y* y;
    std::int64_t n;
    std::int32_t const* key;
    std::uint64_t site;
    Strides<1> walk;
    std::int64_t start;
    bool packed;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        RandomKey random(key, site);
        bool wide = aligned(x, y);
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            auto a = Pack<T, lanes>::load(x + i, n - i, wide);
            float v[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) v[j] = a[j];
            if (packed) random.apply(number(i), v, f);
            else random.apply_each([&](int j) { return number(i + j); }, n - i, v, f);
            Pack<Y, lanes>(v).store(y + i, n - i, wide);
        }
    }

  private:
    PLAIT_DEVICE std::uint64_t number(std::int64_t i) const {
        std::int64_t at[1] = {start};
        walk.find(i, at);
        return static_cast<std::uint64_t>(at[0]);
    }
};

}  // namespace plait::cuda
