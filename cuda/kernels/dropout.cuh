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

/// y = x * scale where the 24 bits of an element reach `least`, else 0: Dropout of ops/elementwise.hpp. The
/// bits hang on the number of the element in the logical tensor, which `walk` tells from `start` on. With
/// `packed` the elements of a pack lie side by side there, from a multiple of four on. y may be x.
template <class T>
struct DropoutMap {
    static constexpr char const* name = "dropout";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = NoShared;

    T const* x;
    T* y;
    std::int64_t n;
    std::int32_t const* key;  // [2]: seed, step
    std::uint64_t site;
    std::uint32_t least;
    float scale;
    Strides<1> walk;
    std::int64_t start;
    bool packed;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        auto seed = static_cast<std::uint32_t>(key[0]), when = static_cast<std::uint32_t>(key[1]);
        auto mix = mixed(seed ^ mixed(site));
        bool wide = aligned(x, y);
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            auto a = Pack<T>::load(x + i, n - i, wide);
            float v[lanes];
            if (packed) {
                auto first = number(i);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; j += 4) {
                    RandomWords words(first / 4 + static_cast<std::uint64_t>(j / 4), when,
                                      static_cast<std::uint32_t>(site), mix);
                    PLAIT_UNROLL
                    for (int k = 0; k < 4; ++k) v[j + k] = kept(words.at[k], a[j + k]);
                }
            } else {
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) v[j] = a[j];
                // Not unrolled but for the choice of the lane, as a pack would take many times the code.
                PLAIT_UNROLL_BY(1)
                for (int j = 0; j < lanes; ++j) {
                    if (j >= n - i) break;
                    auto at = number(i + j);
                    RandomWords words(at / 4, when, static_cast<std::uint32_t>(site), mix);
                    auto word = words[static_cast<int>(at % 4)];
                    PLAIT_UNROLL
                    for (int k = 0; k < lanes; ++k)
                        if (k == j) v[k] = kept(word, v[k]);
                }
            }
            Pack<T>(v).store(y + i, n - i, wide);
        }
    }

  private:
    PLAIT_DEVICE std::uint64_t number(std::int64_t i) const {
        std::int64_t at[1] = {start};
        walk.find(i, at);
        return static_cast<std::uint64_t>(at[0]);
    }
    PLAIT_DEVICE float kept(std::uint32_t word, float a) const {
        return (word >> 8) >= least ? a * scale : 0.0f;
    }
};

}  // namespace plait::cuda
