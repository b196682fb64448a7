#pragma once

#include "cuda/device/pack.cuh"

namespace plait::cuda {

/// 16 bytes of elements.
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
/// A NaN wins.
template <class T>
PLAIT_DEVICE T larger(T a, T b) {
    if constexpr (sizeof(T) == 2) {
        float x = to_float(a), y = to_float(b);
        return x > y || x != x ? a : b;
    } else return a > b || a != a ? a : b;
}

template <class T>
PLAIT_DEVICE Lanes<T> combined(Lanes<T> const& a, Lanes<T> const& b, bool max) {
    Lanes<T> y;
    if (max) {
        PLAIT_UNROLL
        for (int j = 0; j < Lanes<T>::n; ++j) y.at[j] = larger(a.at[j], b.at[j]);
    } else if constexpr (sizeof(T) == 2) {
        PLAIT_UNROLL
        for (int j = 0; j < Lanes<T>::n; j += 2) {
            auto pair = bf16_pair(to_float(a.at[j]) + to_float(b.at[j]),
                                  to_float(a.at[j + 1]) + to_float(b.at[j + 1]));
            y.at[j] = T{static_cast<std::uint16_t>(pair & 0xffffu)};
            y.at[j + 1] = T{static_cast<std::uint16_t>(pair >> 16)};
        }
    } else {
        PLAIT_UNROLL
        for (int j = 0; j < Lanes<T>::n; ++j) y.at[j] = added(a.at[j], b.at[j]);
    }
    return y;
}

/// The combination of what `ranks` ranks have, element by element, by the tree of ordered_combine
/// (plait/comm/ordered.hpp), to the bit: what this rank has lies at `own`, that of another rank r at
/// `rows` + r * stride. `out` may be `own`.
template <class T>
struct TreeSum {
    static constexpr char const* name = "tree_sum";
    static constexpr int threads = 256, lanes = Lanes<T>::n;
    static constexpr int levels = 14;  // fewer than 2^14 ranks
    using Shared = NoShared;

    T const* rows;
    std::int64_t stride;
    T const* own;
    int rank, ranks;
    bool max;
    T* out;
    std::int64_t n;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = aligned(rows, own, out) && stride % lanes == 0;
        std::int64_t step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            // As one counts in binary: where bit d of r is set, level d holds the 2^d ranks before.
            Lanes<T> level[levels] = {};
            for (int r = 0; r < ranks; ++r) {
                auto x = load((r == rank ? own : rows + r * stride) + i, n - i, wide);
                bool carries = true;
                PLAIT_UNROLL
                for (int d = 0; d < levels; ++d) {
                    if (!carries) continue;
                    if (r >> d & 1) x = combined(level[d], x, max);
                    else {
                        level[d] = x;
                        carries = false;
                    }
                }
            }
            // What is left are subtrees of falling size, of which the last ones join first.
            Lanes<T> y = {};
            bool some = false;
            PLAIT_UNROLL
            for (int d = 0; d < levels; ++d)
                if (ranks >> d & 1) {
                    y = some ? combined(level[d], y, max) : level[d];
                    some = true;
                }
            store(out + i, n - i, wide, y);
        }
    }

  private:
    PLAIT_DEVICE static Lanes<T> load(T const* p, std::int64_t count, bool wide) {
        if (wide && count >= lanes) return __builtin_bit_cast(Lanes<T>, load_words<4>(p));
        Lanes<T> x;
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) x.at[j] = p[j < count ? j : 0];
        return x;
    }
    PLAIT_DEVICE static void store(T* p, std::int64_t count, bool wide, Lanes<T> const& y) {
        if (wide && count >= lanes) return store_words<4>(p, __builtin_bit_cast(Words<4>, y));
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j)
            if (j < count) p[j] = y.at[j];
    }
};

}  // namespace plait::cuda
