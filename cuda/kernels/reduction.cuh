#pragma once

// Sums and maxima along dims. The order of a fold depends on the length of what is folded alone, neither on
// what lies beside it nor on addresses: a block of the other dims has the bits that it has in the whole.

#include "cuda/device/team.cuh"

namespace plait::cuda {

/// Floats to fold, in packs.
template <class T>
struct FloatInput {
    using Value = float;
    using Raw = Pack<T>;
    static constexpr int lanes = Raw::lanes;

    T const* x;

    PLAIT_DEVICE bool wide(std::int64_t i) const { return aligned(x + i); }
    PLAIT_DEVICE Raw load(std::int64_t i, std::int64_t count, bool wide) const {
        return Raw::load(x + i, count, wide);
    }
    PLAIT_DEVICE static float value(Raw const& raw, int j) { return raw[j]; }
};
/// Integers to fold, one by one.
struct IntegerInput {
    using Value = std::int64_t;
    using Raw = std::int64_t;
    static constexpr int lanes = 1;

    Source x;

    PLAIT_DEVICE bool wide(std::int64_t) const { return false; }
    PLAIT_DEVICE Raw load(std::int64_t i, std::int64_t, bool) const { return x.load<std::int64_t>(i); }
    PLAIT_DEVICE static std::int64_t value(Raw raw, int) { return raw; }
};

/// Writes the first `count` results, or adds them to what is there.
template <class C, int lanes>
PLAIT_DEVICE void put(Target y, std::int64_t at, C (&v)[lanes], std::int64_t count, bool add) {
    if (add) PLAIT_UNROLL
    for (int j = 0; j < lanes; ++j)
        if (j < count) v[j] = Sum::of(y.source().load<C>(at + j), v[j]);
    if constexpr (lanes > 1) {
        if (y.type == Type::f32) {
            auto* p = static_cast<float*>(y.data) + at;
            return Pack<float, lanes>(v).store(p, count, aligned(p));
        }
        auto* p = static_cast<Bf16*>(y.data) + at;
        return Pack<Bf16, lanes>(v).store(p, count, aligned(p));
    } else if (count > 0) {
        y.store(at, v[0]);
    }
}

/// [before, size] -> [before], or with chunks [before, chunks]: each chunk of neighbours is folded by a warp,
/// or with `whole` by a block.
template <class In, class F>
struct ReduceRows {
    static constexpr char const* name = "reduce_rows";
    static constexpr int threads = 256, lanes = In::lanes, ahead = 4;
    using C = typename In::Value;
    using Shared = TeamValues<C, threads>;

    In x;
    Target y;
    std::int64_t before, size, chunk, chunks;
    bool whole, add;

    std::int64_t blocks() const {
        return smaller<std::int64_t>(pieces(before * chunks, whole ? 1 : threads / warp_size), 1 << 20);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        int team = whole ? threads : warp_size, lane = block.thread() % team, teams = threads / team;
        std::int64_t items = before * chunks;
        for (auto item = static_cast<std::int64_t>(block.index()) * teams + block.thread() / team;
             item < items; item += static_cast<std::int64_t>(block.blocks()) * teams) {
            std::int64_t row = chunks > 1 ? item / chunks : item, first = (item - row * chunks) * chunk;
            std::int64_t n = smaller(chunk, size - first), begin = row * size + first;
            C sum[lanes];
            PLAIT_UNROLL
            for (int k = 0; k < lanes; ++k) sum[k] = F::template identity<C>;
            if (x.wide(begin)) fold<true>(begin, n, lane * lanes, team * lanes, sum);
            else fold<false>(begin, n, lane * lanes, team * lanes, sum);
            PLAIT_UNROLL
            for (int k = 1; k < lanes; ++k) sum[0] = F::of(sum[0], sum[k]);
            C total[1] = {team_fold<F>(block, shared, sum[0], whole)};
            if (lane == 0) put(y, item, total, 1, add);
        }
    }

  private:
    // The loads of a round are on their way before the first is looked at; no branch lies between them.
    template <bool wide>
    PLAIT_DEVICE void fold(std::int64_t begin, std::int64_t n, std::int64_t j, std::int64_t step,
                           C (&sum)[lanes]) const {
        constexpr int round = wide ? ahead : 1;
        for (; j + (round - 1) * step + lanes <= n; j += round * step) {
            typename In::Raw raw[round];
            PLAIT_UNROLL
            for (int u = 0; u < round; ++u) raw[u] = x.load(begin + j + u * step, lanes, wide);
            PLAIT_UNROLL
            for (int u = 0; u < round; ++u) PLAIT_UNROLL
            for (int k = 0; k < lanes; ++k) sum[k] = F::of(sum[k], In::value(raw[u], k));
        }
        for (; j < n; j += step) {
            auto raw = x.load(begin + j, n - j, wide);
            PLAIT_UNROLL
            for (int k = 0; k < lanes; ++k)
                if (j + k < n) sum[k] = F::of(sum[k], In::value(raw, k));
        }
    }
};

/// [before, size, after] -> [before, after], or with chunks [before, chunks, after]: a thread folds every
/// `ways`-th row of a chunk, for a pack of columns; the ways, 1 or 8, are folded after that.
template <class In, class F>
struct ReduceColumns {
    static constexpr char const* name = "reduce_columns";
    static constexpr int threads = 256, lanes = In::lanes, most_ways = 8, ahead = 8;
    using C = typename In::Value;
    struct Shared {
        C at[most_ways][lanes][threads / most_ways];
    };

    In x;
    Target y;
    std::int64_t before, size, after, chunk, chunks;
    int ways;
    bool add;

    PLAIT_BOTH std::int64_t packs() const { return before * pieces(after, lanes); }
    PLAIT_BOTH std::int64_t bands() const { return pieces(packs(), threads / ways); }
    std::int64_t blocks() const { return smaller<std::int64_t>(bands() * chunks, 1 << 20); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        int columns = threads / ways, way = block.thread() / columns, own = block.thread() % columns;
        std::int64_t all = packs(), bands = this->bands(), items = bands * chunks,
                     width = pieces(after, lanes);
        bool wide = x.wide(0) && after % lanes == 0;
        for (std::int64_t item = block.index(); item < items; item += block.blocks()) {
            std::int64_t c = item / bands, pack = (item - c * bands) * columns + own;
            std::int64_t b = pack / width, column = (pack - b * width) * lanes;
            std::int64_t left = pack < all ? after - column : 0;
            C sum[lanes];
            PLAIT_UNROLL
            for (int k = 0; k < lanes; ++k) sum[k] = F::template identity<C>;
            if (left > 0) {
                std::int64_t r = c * chunk + way, at = (b * size + r) * after + column;
                std::int64_t rows = pieces(smaller(size, (c + 1) * chunk) - r, ways);
                if (wide) fold<true>(at, rows, lanes, sum);
                else fold<false>(at, rows, left, sum);
            }
            if (ways > 1) {
                PLAIT_UNROLL
                for (int k = 0; k < lanes; ++k) shared.at[way][k][own] = sum[k];
                block.barrier();
                if (way == 0) PLAIT_UNROLL
                for (int w = 1; w < most_ways; ++w) PLAIT_UNROLL
                for (int k = 0; k < lanes; ++k) sum[k] = F::of(sum[k], shared.at[w][k][own]);
                block.barrier();  // before the next item overwrites these
            }
            if (way == 0 && left > 0) put(y, (b * chunks + c) * after + column, sum, left, add);
        }
    }

  private:
    template <bool wide>
    PLAIT_DEVICE void fold(std::int64_t at, std::int64_t rows, std::int64_t count, C (&sum)[lanes]) const {
        constexpr int round = wide ? ahead : 1;
        std::int64_t step = ways * after;
        for (; rows >= round; rows -= round, at += round * step) {
            typename In::Raw raw[round];
            PLAIT_UNROLL
            for (int u = 0; u < round; ++u) raw[u] = x.load(at + u * step, count, wide);
            PLAIT_UNROLL
            for (int u = 0; u < round; ++u) PLAIT_UNROLL
            for (int k = 0; k < lanes; ++k) sum[k] = F::of(sum[k], In::value(raw[u], k));
        }
        for (; rows > 0; --rows, at += step) {
            auto raw = x.load(at, count, wide);
            PLAIT_UNROLL
            for (int k = 0; k < lanes; ++k) sum[k] = F::of(sum[k], In::value(raw, k));
        }
    }
};

}  // namespace plait::cuda
