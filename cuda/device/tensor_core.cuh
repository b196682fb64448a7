#pragma once

// Products of 16 x 8 on tensor cores, and how their operands come: from global memory by copies that a thread
// does not wait for, out of shared memory as the fragments that lanes hold. All of it is of sm_80 and newer.
// NVIDIA, "PTX ISA": mma.sync.m16n8k16, ldmatrix, cp.async.
//
// Lane l is of row l / 4 and has the columns 2 (l % 4) and the next one: of each 8 x 8 piece it holds these
// two elements in a word, the lower column in the lower half.

#include "cuda/device/block.cuh"

namespace plait::cuda {

/// An address of the block's shared memory.
class SharedAddress;

}  // namespace plait::cuda

#ifdef __CUDACC__

namespace plait::cuda {

class SharedAddress {
  public:
    PLAIT_DEVICE explicit SharedAddress(void const* p)
        : at_(static_cast<std::uint32_t>(__cvta_generic_to_shared(p))) {}
    PLAIT_DEVICE SharedAddress operator+(int bytes) const {
        SharedAddress other = *this;
        other.at_ += static_cast<std::uint32_t>(bytes);
        return other;
    }
    PLAIT_DEVICE SharedAddress operator^(int bits) const {
        SharedAddress other = *this;
        other.at_ ^= static_cast<std::uint32_t>(bits);
        return other;
    }
    PLAIT_DEVICE std::uint32_t at() const { return at_; }

  private:
    std::uint32_t at_;
};

/// c += a b, of bf16 in f32. a [16, 16] is four pieces: upper left, lower left, upper right, lower right; b
/// [16, 8] two, upper and lower, of which a lane holds what stands in column l / 4 and rows 2 (l % 4) and the
/// next; c [16, 8] two, and a float for each element. All 32 lanes must come.
PLAIT_DEVICE void mma(Block const&, float (&c)[4], Words<4> const& a, std::uint32_t upper,
                      std::uint32_t lower) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(upper), "r"(lower));
}

/// Four 8 x 8 pieces of bf16. Lanes 8 i to 8 i + 7 say where the rows of piece i are, 16 bytes each at a
/// multiple of 16. All 32 lanes must come.
PLAIT_DEVICE Words<4> load_pieces(Block const&, SharedAddress row) {
    Words<4> x;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.at[0]), "=r"(x.at[1]), "=r"(x.at[2]), "=r"(x.at[3])
                 : "r"(row.at())
                 : "memory");
    return x;
}
/// The same of each piece's transpose.
PLAIT_DEVICE Words<4> load_transposed_pieces(Block const&, SharedAddress row) {
    Words<4> x;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.at[0]), "=r"(x.at[1]), "=r"(x.at[2]), "=r"(x.at[3])
                 : "r"(row.at())
                 : "memory");
    return x;
}

/// Begins to copy 4 or 16 bytes of global memory, both addresses multiples of that, or to write zeros where
/// they are not `here`: nothing is read then, wherever `from` is.
template <int bytes>
PLAIT_DEVICE void begin_copy(Block const&, SharedAddress to, void const* from, bool here) {
    static_assert(bytes == 4 || bytes == 16);
    auto address = __cvta_generic_to_global(from);
    // Sixteen need not go through the L1 cache.
    if constexpr (bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to.at()), "l"(address),
                     "r"(here ? 16 : 0)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to.at()), "l"(address),
                     "r"(here ? 4 : 0)
                     : "memory");
}
/// The copies that this thread began since the last time are a group.
PLAIT_DEVICE void commit_copies(Block const&) { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until all but the last n groups of this thread have arrived; other threads see them after a barrier.
template <int n>
PLAIT_DEVICE void wait_copies(Block const&) {
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

}  // namespace plait::cuda

#else
#include "cuda/device/host_tensor_core.hpp"
#endif
