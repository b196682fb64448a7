#pragma once

#include "cuda/device/pack.cuh"

namespace plait::cuda {

/// 16 bytes of elements, as they are stored.
template <class T>
struct Lanes {
    static constexpr int n = 16 / static_cast<int>(sizeof(T));
    T at[n];
};

template <class T>
PLAIT_DEVICE T added(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
        using U = std::make_unsigned_t<T>;
        return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    } else return a + b;
}
/// Whether a is the maximum of the two; a NaN wins.
template <class T>
PLAIT_DEVICE bool leads(T a, T b) {
    return a > b || a != a;
}

template <class T>
PLAIT_DEVICE Words<4> combined(Words<4> const& a, Words<4> const& b, bool max) {
    if constexpr (sizeof(T) == 2) {
        Words<4> y;
        PLAIT_UNROLL
        for (int i = 0; i < 4; ++i) {
            auto u = a.at[i], v = b.at[i];
            auto low = [](std::uint32_t w) { return __builtin_bit_cast(float, w << 16); };
            auto high = [](std::uint32_t w) { return __builtin_bit_cast(float, w & 0xffff0000u); };
            y.at[i] = max ? ((leads(low(u), low(v)) ? u : v) & 0xffffu) |
                                ((leads(high(u), high(v)) ? u : v) & 0xffff0000u)
                          : bf16_pair(low(u) + low(v), high(u) + high(v));
        }
        return y;
    } else {
        auto x = __builtin_bit_cast(Lanes<T>, a), z = __builtin_bit_cast(Lanes<T>, b);
        Lanes<T> y;
        PLAIT_UNROLL
        for (int j = 0; j < Lanes<T>::n; ++j)
            y.at[j] = max ? (leads(x.at[j], z.at[j]) ? x.at[j] : z.at[j]) : added(x.at[j], z.at[j]);
        return __builtin_bit_cast(Words<4>, y);
    }
}

/// Levels of a TreeSum, a pack of registers each.
inline constexpr int few_levels = 3, most_levels = 11;

/// The combination of what `ranks` ranks have, element by element, by the tree of ordered_combine
/// (plait/comm/ordered.hpp), to the bit: what this rank has lies at `own`, that of another rank r at
/// `rows` + r * stride. `out` may be `own`. There are fewer than 4 * 2^levels ranks. What a rank has may
/// itself be a chain of `chain` addends, stride apart.
template <class T, int levels>
struct TreeSum {
    static constexpr char const* name = "tree_sum";
    static constexpr int threads = 256, lanes = Lanes<T>::n, blocks_per_sm = 2;
    using Shared = NoShared;

    T const* rows;
    std::int64_t stride;
    T const* own;
    int rank, ranks;
    bool max;
    T* out;
    std::int64_t n;
    int chain = 1;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = aligned(rows, own, out) && stride % lanes == 0;
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            // As one counts in binary: where bit d of r / 4 is set, level d holds the 4 * 2^d ranks before.
            Words<4> level[levels] = {};
            for (int r = 0; r + 4 <= ranks; r += 4) {
                Words<4> x[4];  // on their way together
                PLAIT_UNROLL
                for (int k = 0; k < 4; ++k) x[k] = load(r + k, i, wide);
                auto y = combined<T>(combined<T>(x[0], x[1], max), combined<T>(x[2], x[3], max), max);
                bool carries = true;
                PLAIT_UNROLL
                for (int d = 0; d < levels; ++d) {
                    if (!carries) continue;
                    if (r >> (d + 2) & 1) y = combined<T>(level[d], y, max);
                    else {
                        level[d] = y;
                        carries = false;
                    }
                }
            }
            // What is left are subtrees of falling size, of which the last ones join first.
            int rest = ranks % 4, first = ranks - rest;
            bool some = rest > 0;
            Words<4> y = {};
            if (rest > 0) y = load(first, i, wide);
            if (rest > 1) y = combined<T>(y, load(first + 1, i, wide), max);
            if (rest > 2) y = combined<T>(y, load(first + 2, i, wide), max);
            PLAIT_UNROLL
            for (int d = 0; d < levels; ++d)
                if (ranks >> (d + 2) & 1) {
                    y = some ? combined<T>(level[d], y, max) : level[d];
                    some = true;
                }
            store(out + i, n - i, wide, y);
        }
    }

  private:
    PLAIT_DEVICE Words<4> load(int r, std::int64_t i, bool wide) const {
        auto const* p = (r == rank ? own : rows + r * chain * stride) + i;
        auto y = words_at(p, i, wide);
        for (int k = 1; k < chain; ++k) y = combined<T>(y, words_at(p + k * stride, i, wide), max);
        return y;
    }
    PLAIT_DEVICE Words<4> words_at(T const* p, std::int64_t i, bool wide) const {
        if (wide && n - i >= lanes) return load_words<4>(p);
        Lanes<T> x;
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) x.at[j] = p[j < n - i ? j : 0];
        return __builtin_bit_cast(Words<4>, x);
    }
    PLAIT_DEVICE static void store(T* p, std::int64_t count, bool wide, Words<4> const& words) {
        if (wide && count >= lanes) return store_words<4>(p, words);
        auto y = __builtin_bit_cast(Lanes<T>, words);
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j)
            if (j < count) p[j] = y.at[j];
    }
};

}  // namespace plait::cuda
