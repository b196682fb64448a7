#pragma once

#include "plait/core/random.hpp"
#include "plait/cpu/kernels/blocks-inl.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// Random::words of the calls `first`, `first` + 1, ...: `philox` of core/random.hpp, one call a lane. Writes
/// four words a call, in the order of the elements.
PLAIT_SIMD void random_words(Random const& random, std::uint64_t first, std::uint32_t* words) {
    constexpr int n = lanes<double>;
    constexpr std::uint64_t low = 0xffffffffu;
    std::uint64_t key = mix(random.seed ^ mix(random.site));
    auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    Wide index = first - Wide{};
    for (int i = 0; i < n; ++i) index[i] += static_cast<std::uint64_t>(i);
    Wide c[4] = {index & low, index >> 32, std::uint64_t{random.step} - Wide{}, (random.site & low) - Wide{}};
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
        Wide a = multiply_low(c[0], 0xD2511F53u - Wide{}), b = multiply_low(c[2], 0xCD9E8D57u - Wide{});
        c[0] = (b >> 32) ^ c[1] ^ std::uint64_t{k0};
        c[1] = b & low;
        c[2] = (a >> 32) ^ c[3] ^ std::uint64_t{k1};
        c[3] = a & low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    // Two words are one 64-bit number, so the order of the elements comes from two stores a call.
    std::uint64_t pairs[2][n];
    Wide low_pair = c[0] | (c[1] << 32), high_pair = c[2] | (c[3] << 32);
    std::memcpy(pairs[0], &low_pair, sizeof low_pair);
    std::memcpy(pairs[1], &high_pair, sizeof high_pair);
    for (int i = 0; i < n; ++i) {
        std::memcpy(words + 4 * i, &pairs[0][i], 8);
        std::memcpy(words + 4 * i + 2, &pairs[1][i], 8);
    }
}

/// The 24 bits that Random::uniform has of the elements [first, first + n), n being at most block_elements.
/// `words` has room for a whole number of calls; the result points into it.
inline std::int32_t const* random_block(Random const& random, std::uint64_t first, std::int64_t n,
                                        std::uint32_t* words) {
    constexpr std::uint64_t step = lanes<double>;
    std::uint64_t call = first / 4, end = (first + static_cast<std::uint64_t>(n) + 3) / 4;
    for (std::uint64_t c = call; c < end; c += step) random_words(random, c, words + 4 * (c - call));
    for (std::uint64_t i = 0; i < 4 * (end - call); ++i) words[i] >>= 8;
    return reinterpret_cast<std::int32_t const*>(words + first % 4);
}

/// f(i, n, words) for runs of at most block_elements elements [i, i + n) of y that are neighbours in the
/// logical tensor too; words[j] has the 24 bits of element i + j. `key` is i32[2]: seed and step.
template <class F>
void for_random_runs(KernelCall const& call, Buffer const& key, std::uint64_t site, Buffer const& y, F&& f) {
    auto const* k = key.as<std::int32_t const>();
    Random random{static_cast<std::uint32_t>(k[0]), site, static_cast<std::uint32_t>(k[1])};
    Shape const& s = y.meta.shape;
    // The last dims that are whole, and the one before them, are a run.
    bool part = !y.block.logical.empty();
    int dim = s.rank() - 1;
    while (part && dim > 0 && s.begin()[dim] == y.block.logical.begin()[dim]) --dim;
    std::int64_t run = part ? elements(s, dim, s.rank()) : y.meta.elements();
    auto logical_index = [&](std::int64_t i) {
        std::int64_t index = 0, stride = 1;
        for (int d = s.rank() - 1; d >= 0; --d) {
            index += (i % s.begin()[d] + y.block.origin.begin()[d]) * stride;
            i /= s.begin()[d];
            stride *= y.block.logical.begin()[d];
        }
        return index;
    };
    run_tiles(call, pieces(y.meta.elements(), tile_elements), [&](std::int64_t t, int) {
        alignas(64) std::uint32_t words[block_elements + 8 * lanes<float>];
        std::int64_t end = smaller(y.meta.elements(), (t + 1) * tile_elements);
        for (std::int64_t i = t * tile_elements; i < end;) {
            std::int64_t n = smaller(smaller(block_elements, end - i), run - i % run);
            auto first = static_cast<std::uint64_t>(part ? logical_index(i) : i);
            f(i, n, random_block(random, first, n, words));
            i += n;
        }
    });
}

/// Rounds n numbers to such that bf16 has, as StochasticRound (ops/update.hpp) says. `words` are those of
/// for_random_runs, `to` may be x.
inline void round_at_random(float* to, float const* x, std::int32_t const* words, std::int64_t n) {
    for_lanes<float>(
        n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
            Floats v = load<float>(x + j, count);
            auto bits = (Unsigned)load<float>(reinterpret_cast<float const*>(words + j), count) >> 8;
            auto u = (Unsigned)v;
            auto nan = (Ints)(u & 0x7fffffffu) > 0x7f800000;
            Unsigned rounded = (u + bits) & 0xffff0000u;
            store<float>(to + j, (Floats)(((Unsigned)nan & u) | (~(Unsigned)nan & rounded)), count);
        });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
