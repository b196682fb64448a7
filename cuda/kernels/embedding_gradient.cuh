#pragma once

#include "cuda/device/pack.cuh"

namespace plait::cuda {

// EmbeddingGradient of ops/embedding.hpp: tokens are sorted by their rows of the table, stably, and then each
// row of the table is a sum in that order. The sort goes by digits, the least first; of each digit
// `RadixCount` counts and `RadixScatter` moves.

/// What is sorted: the row of each token and, below it, the token's number. Rows of other blocks of the table
/// come last, as row `rows`.
struct TokenPairs {
    std::int32_t const* tokens;  // the pairs are made of these, where `pairs` is null
    std::uint64_t const* pairs;
    std::int64_t count, origin, rows, vocab;
    std::int64_t tile;  // pairs of a block
    int shift, bits;    // of the digit

    /// Enough blocks to be quick, and not so many that their counts take longer than the pairs.
    static std::int64_t tile_of(std::int64_t count) {
        auto fair = pieces(pieces(count, 128), 512) * 512;
        return fair < 1024 ? 1024 : fair;
    }
    std::int64_t tiles() const { return pieces(count, tile); }

    PLAIT_DEVICE bool is_wrong(std::int64_t i) const {
        return !pairs && (tokens[i] < 0 || tokens[i] >= vocab);
    }
    PLAIT_DEVICE std::uint64_t at(std::int64_t i) const {
        if (pairs) return pairs[i];
        std::int64_t row = tokens[i] - origin;
        bool here = row >= 0 && row < rows && !is_wrong(i);
        return static_cast<std::uint64_t>(here ? row : rows) << 32 | static_cast<std::uint64_t>(i);
    }
    PLAIT_DEVICE int digit(std::uint64_t pair) const {
        return static_cast<int>(pair >> (32 + shift)) & ((1 << bits) - 1);
    }
};

/// How often each digit occurs in each tile. A token outside the vocabulary raises *fault to 1 + its number.
struct RadixCount {
    static constexpr char const* name = "radix_count";
    static constexpr int threads = 512, digits = threads;  // a digit has at most 9 bits
    struct Shared {
        std::uint32_t count[digits];
    };

    TokenPairs from;
    std::uint32_t* fault;
    std::uint32_t* counts;  // [tiles, digits]

    std::int64_t blocks() const { return from.tiles(); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        shared.count[block.thread()] = 0;
        block.barrier();
        auto begin = block.index() * from.tile, end = smaller(from.count, begin + from.tile);
        for (auto i = begin + block.thread(); i < end; i += threads) {
            if (from.is_wrong(i)) block.atomic_max(fault, static_cast<std::uint32_t>(i + 1));
            block.atomic_add(&shared.count[from.digit(from.at(i))], 1u);
        }
        block.barrier();
        counts[block.index() * static_cast<std::int64_t>(digits) + block.thread()] =
            shared.count[block.thread()];
    }
};

/// Moves each pair behind those of lesser digits, and of the same digit before it.
struct RadixScatter {
    static constexpr char const* name = "radix_scatter";
    static constexpr int threads = RadixCount::threads, digits = RadixCount::digits,
                         warps = threads / warp_size;
    struct Shared {
        std::uint32_t total[warps];
        std::uint32_t of_warp[warps][digits];
    };

    TokenPairs from;
    std::uint32_t const* counts;  // [tiles, digits]
    std::uint64_t* to;            // [count]

    std::int64_t blocks() const { return from.tiles(); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        int thread = block.thread(), lane = thread % warp_size, warp = thread / warp_size;
        auto next = first_of_digit(block, shared);  // where the next pair of digit `thread` goes
        auto begin = block.index() * from.tile, end = smaller(from.count, begin + from.tile);
        for (auto first = begin; first < end; first += threads) {
            PLAIT_UNROLL
            for (int w = 0; w < warps; ++w) shared.of_warp[w][thread] = 0;
            block.barrier();
            bool mine = first + thread < end;
            auto pair = mine ? from.at(first + thread) : 0;
            int digit = mine ? from.digit(pair) : digits;
            int before = 0, alike = 0;  // lanes of the same digit
            for (int l = 0; l < warp_size; ++l) {
                bool same = block.shuffle(digit, l) == digit;
                alike += same;
                before += same && l < lane;
            }
            if (mine && before == 0) shared.of_warp[warp][digit] = static_cast<std::uint32_t>(alike);
            block.barrier();
            PLAIT_UNROLL
            for (int w = 0; w < warps; ++w) {
                auto count = shared.of_warp[w][thread];
                shared.of_warp[w][thread] = next;
                next += count;
            }
            block.barrier();
            if (mine) to[shared.of_warp[warp][digit] + static_cast<std::uint32_t>(before)] = pair;
            block.barrier();  // before the next round overwrites these
        }
    }

  private:
    /// Where this tile's first pair of digit `block.thread()` goes.
    PLAIT_DEVICE std::uint32_t first_of_digit(Block const& block, Shared& shared) const {
        int thread = block.thread(), lane = thread % warp_size, warp = thread / warp_size;
        std::uint32_t all = 0, before = 0;
        PLAIT_UNROLL_BY(8)
        for (int b = 0; b < block.blocks(); ++b) {
            auto count = counts[b * static_cast<std::int64_t>(digits) + thread];
            all += count;
            before += b < block.index() ? count : 0;
        }
        auto upto = all;  // of this digit and the lesser ones of the warp
        PLAIT_UNROLL
        for (int step = 1; step < warp_size; step *= 2) {
            auto other = block.shuffle(upto, lane < step ? lane : lane - step);
            upto += lane < step ? 0 : other;
        }
        if (lane == warp_size - 1) shared.total[warp] = upto;
        block.barrier();
        for (int w = 0; w < warp; ++w) before += shared.total[w];
        return before + upto - all;
    }
};

/// begins[row] = where the row's pairs begin in the sorted ones; begins[rows]: where the last one's end.
struct RowBegins {
    static constexpr char const* name = "row_begins";
    static constexpr int threads = 256;
    using Shared = NoShared;

    std::uint64_t const* pairs;  // [count], sorted
    std::uint32_t* begins;       // [rows + 1]
    std::int64_t count, rows;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(rows + 1, threads), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        auto step = static_cast<std::int64_t>(block.blocks()) * threads;
        for (auto row = static_cast<std::int64_t>(block.index()) * threads + block.thread(); row <= rows;
             row += step) {
            std::int64_t low = 0, high = count;  // pairs below `low` are of lesser rows, from `high` on not
            while (low < high) {
                auto middle = (low + high) / 2;
                if (static_cast<std::int64_t>(pairs[middle] >> 32) < row) low = middle + 1;
                else high = middle;
            }
            begins[row] = static_cast<std::uint32_t>(low);
        }
    }
};

/// y[row] = the sum of dy over the row's pairs. A row of a few is summed by a warp in their order, one of
/// many by the block: each warp takes its turn, and the warps' sums follow one another.
template <class T>
struct RowSums {
    static constexpr char const* name = "row_sums";
    static constexpr int threads = 512, warps = threads / warp_size, lanes = Pack<T>::lanes;
    static constexpr int chunk = warp_size * lanes;  // columns of a block
    static constexpr std::uint32_t few = 32;
    struct Shared {
        float at[warps][chunk];
    };

    std::uint64_t const* pairs;   // sorted
    std::uint32_t const* begins;  // [rows + 1]
    T const* dy;                  // [count, dim]
    float* y;                     // [rows, dim]
    std::int64_t rows;
    int dim;
    bool accumulate;

    std::int64_t blocks() const { return pieces(rows, warps) * pieces(dim, chunk); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = dim % lanes == 0 && aligned(dy, y);
        int lane = block.thread() % warp_size, warp = block.thread() / warp_size;
        int chunks = static_cast<int>(pieces(dim, chunk)), first = block.index() % chunks * chunk;
        int column = first + lane * lanes, left = dim - column;
        auto group = static_cast<std::int64_t>(block.index() / chunks) * warps;
        if (auto row = group + warp; row < rows) {
            auto begin = begins[row], end = begins[row + 1];
            // A sum never holds -0, so that adding the zeros of a row without tokens changes nothing.
            if (end - begin <= few && !(accumulate && begin == end)) {
                float sum[lanes] = {};
                add(sum, begin, end, 1, column, left, wide);
                float* to = y + row * dim + column;
                if (accumulate) {
                    auto before = Pack<float, lanes>::load(to, left, wide);
                    PLAIT_UNROLL
                    for (int j = 0; j < lanes; ++j) sum[j] = before[j] + sum[j];
                }
                if (left > 0) Pack<float, lanes>(sum).store(to, left, wide);
            }
        }
        for (auto row = group; row < smaller(rows, group + warps); ++row) {
            auto begin = begins[row], end = begins[row + 1];
            if (end - begin <= few) continue;  // all threads of the block
            float sum[lanes] = {};
            add(sum, begin + static_cast<std::uint32_t>(warp), end, warps, column, left, wide);
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) shared.at[warp][lane * lanes + j] = sum[j];
            block.barrier();
            if (block.thread() < chunk && first + block.thread() < dim) {
                float total = shared.at[0][block.thread()];
                PLAIT_UNROLL
                for (int w = 1; w < warps; ++w) total += shared.at[w][block.thread()];
                float* to = y + row * dim + first + block.thread();
                *to = accumulate ? *to + total : total;
            }
            block.barrier();  // before the next row overwrites these
        }
    }

  private:
    /// Adds dy of every `step`th pair of [begin, end) to `sum`.
    PLAIT_DEVICE void add(float (&sum)[lanes], std::uint32_t begin, std::uint32_t end, std::uint32_t step,
                          int column, int left, bool wide) const {
        PLAIT_UNROLL_BY(4)
        for (auto k = begin; k < end; k += step) {
            auto token = static_cast<std::int64_t>(pairs[k] & 0xffffffffu);
            auto v = Pack<T>::load(dy + token * dim + column, left, wide);
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) sum[j] += v[j];
        }
    }
};

}  // namespace plait::cuda
