#pragma once

#include "cuda/device/block.cuh"

namespace plait::cuda {

/// Bytes of arguments that a kernel may take.
inline constexpr std::size_t most_argument_bytes = 32764;

/// Up to `most` tensors for one launch, each cut into parts of `part` elements, a block each. T has the
/// fields `n`, its elements, and `first`, the block of its first part.
template <class T, int most_, int part_>
struct Many {
    static constexpr int most = most_, part = part_;

    int count, blocks;
    T of[most];

    bool full() const { return count == most; }
    void add(T one) {
        one.first = blocks;
        blocks += static_cast<int>(pieces(one.n, part));
        of[count++] = one;
    }

    /// Whose part a block has.
    PLAIT_DEVICE T const& of_block(int block) const {
        int low = 0, high = count;  // the first of `low` is at most `block`, that of `high` above it
        while (high - low > 1) {
            int middle = (low + high) / 2;
            if (of[middle].first <= block) low = middle;
            else high = middle;
        }
        return of[low];
    }
};

/// Sets words to 0: of each of many tensors the first `words`.
struct Clear {
    static constexpr char const* name = "clear";
    static constexpr int threads = 256, most = 1024;
    using Shared = NoShared;

    int count, words;  // words: at most `threads`
    std::uint32_t* of[most];

    std::int64_t blocks() const { return pieces(static_cast<std::int64_t>(count) * words, threads); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        int i = block.index() * threads + block.thread();
        if (i < count * words) of[i / words][i % words] = 0;
    }
};

}  // namespace plait::cuda
