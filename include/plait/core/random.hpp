#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace plait {

/// FNV-1a over the bytes of a name: stable across runs, builds and machines.
constexpr std::uint64_t hash_name(std::string_view name) {
    std::uint64_t h = 0xcbf29ce484222325u;
    for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return h;
}

/// Finaliser of splitmix64: a bijection that spreads every input bit.
constexpr std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/// Philox-4x32-10: a counter and a key to four random words, with no state.
/// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c,
                                              std::array<std::uint32_t, 2> key) {
    for (int round = 0; round < 10; ++round) {
        std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0], b = std::uint64_t{0xCD9E8D57u} * c[2];
        c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
             static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return c;
}

/// Random words for a logical element: the same whatever the layout, block or thread that asks.
struct Random {
    std::uint64_t seed = 0;  // of the run
    std::uint64_t site = 0;  // who asks: the hash of a module path and an op ordinal
    std::uint32_t step = 0;

    constexpr std::array<std::uint32_t, 4> words(std::uint64_t index) const {
        std::uint64_t k = mix(seed ^ mix(site));
        return philox({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), step,
                       static_cast<std::uint32_t>(site)},
                      {static_cast<std::uint32_t>(k), static_cast<std::uint32_t>(k >> 32)});
    }
    /// One word for element `index`; four neighbours share one Philox call.
    constexpr std::uint32_t word(std::uint64_t index) const { return words(index / 4)[index % 4]; }
    /// Uniform in [0, 1), 24 bits.
    constexpr float uniform(std::uint64_t index) const { return to_uniform(word(index)); }
    /// Standard normal by Box and Muller.
    float normal(std::uint64_t index) const {
        auto w = words(index);
        double u = (w[0] + 1.0) * 0x1p-32, v = w[1] * 0x1p-32;
        return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v));
    }

    static constexpr float to_uniform(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
};

}  // namespace plait
