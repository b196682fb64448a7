#pragma once

// tensor_core.cuh on the host: fragments lie among lanes as the PTX ISA has them. A copy arrives when it must
// and no sooner: from its begin to the wait that ends it there are NaNs in its place, so that a wait or a
// barrier that is missing shows.

#include "cuda/device/tensor_core.cuh"

#include <algorithm>
#include <cmath>

namespace plait::cuda {

class SharedAddress {
  public:
    explicit SharedAddress(void const* p) : at_(const_cast<std::byte*>(static_cast<std::byte const*>(p))) {}
    SharedAddress operator+(int bytes) const { return SharedAddress(at_ + bytes); }

    SharedAddress operator^(int bits) const {
        auto at = reinterpret_cast<std::uintptr_t>(at_) ^ static_cast<std::uintptr_t>(bits);
        return SharedAddress(reinterpret_cast<std::byte*>(at));
    }

    /// Where n bytes are, which must be of shared memory and aligned.
    std::byte* bytes(std::size_t n, char const* what) const {
        if (reinterpret_cast<std::uintptr_t>(at_) % n)
            throw KernelFault(std::string(what) + " in shared memory is not aligned");
        auto const* end = shared_memory.first + shared_memory.second;
        if (std::less<>()(at_, shared_memory.first) || std::less<>()(end, at_ + n))
            throw KernelFault(std::string(what) + " is outside the block's shared memory");
        return at_;
    }

  private:
    std::byte* at_;
};

inline float half_of(std::uint32_t word, int half) {
    return __builtin_bit_cast(float, half ? word & 0xffff0000u : word << 16);
}

inline void mma(Block const& block, float (&c)[4], Words<4> const& a, std::uint32_t upper,
                std::uint32_t lower, Where where = {__builtin_FILE(), __builtin_LINE()}) {
    struct Offer {
        Words<4> a;
        std::uint32_t b[2];
    };
    auto of = block.meet(Offer{a, {upper, lower}}, where.at("mma"));
    int group = block.thread() % warp_size / 4, pair = block.thread() % 4;
    // Lane 4 row + p has of each piece the columns 2 p and 2 p + 1 of its row; of b rows and columns are
    // swapped.
    float rows[2][16], columns[2][16];
    for (int p = 0; p < 4; ++p) {
        auto left = of(4 * group + p);
        for (int half = 0; half < 2; ++half)
            for (int right = 0; right < 2; ++right)
                for (int down = 0; down < 2; ++down)
                    rows[down][8 * right + 2 * p + half] = half_of(left.a.at[2 * right + down], half);
        for (int i = 0; i < 2; ++i) {
            auto other = of(4 * (2 * pair + i) + p);
            for (int half = 0; half < 2; ++half)
                for (int down = 0; down < 2; ++down)
                    columns[i][8 * down + 2 * p + half] = half_of(other.b[down], half);
        }
    }
    for (int down = 0; down < 2; ++down)
        for (int i = 0; i < 2; ++i)
            for (int k = 0; k < 16; ++k) c[2 * down + i] += rows[down][k] * columns[i][k];
}

/// The half words [row][column] of pieces of which lanes offer the addresses of rows.
template <bool transposed>
Words<4> gather_pieces(Block const& block, SharedAddress row, Where where) {
    auto of = block.meet(row.bytes(16, "a piece"), where);
    int lane = block.thread() % warp_size;
    Words<4> x;
    for (int piece = 0; piece < 4; ++piece) {
        std::uint16_t halves[2];
        for (int i = 0; i < 2; ++i) {
            int r = lane / 4, c = lane % 4 * 2 + i;
            if (transposed) std::swap(r, c);
            std::memcpy(&halves[i], of(8 * piece + r) + 2 * c, 2);
        }
        x.at[piece] = halves[0] | static_cast<std::uint32_t>(halves[1]) << 16;
    }
    return x;
}
inline Words<4> load_pieces(Block const& block, SharedAddress row,
                            Where where = {__builtin_FILE(), __builtin_LINE()}) {
    return gather_pieces<false>(block, row, where.at("load of pieces"));
}
inline Words<4> load_transposed_pieces(Block const& block, SharedAddress row,
                                       Where where = {__builtin_FILE(), __builtin_LINE()}) {
    return gather_pieces<true>(block, row, where.at("load of transposed pieces"));
}

template <int bytes>
void begin_copy(Block const& block, SharedAddress to, void const* from, bool here) {
    static_assert(bytes == 4 || bytes == 16);
    HostCopy copy{to.bytes(bytes, "a copy"), bytes, {}};
    if (here) {
        check_words(from, bytes, "a copy");
        std::memcpy(copy.bytes, from, bytes);
    }
    std::memset(copy.to, 0xFF, bytes);
    block.of_host().copies.push_back(copy);
}
inline void commit_copies(Block const& block) {
    auto& thread = block.of_host();
    thread.groups.push_back(std::exchange(thread.copies, {}));
}
template <int n>
void wait_copies(Block const& block) {
    for (auto& groups = block.of_host().groups; groups.size() > n; groups.pop_front())
        for (auto const& copy : groups.front()) std::memcpy(copy.to, copy.bytes, copy.size);
}

}  // namespace plait::cuda
