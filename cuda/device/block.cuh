#pragma once

// All that a kernel may use of the machine: who it is, shared memory, barriers, shuffles, atomics and 16-byte
// accesses; and the one function that launches it. nvcc makes CUDA of it. Any other C++20 compiler runs the
// same source on the host, where what would hang or be undefined on a GPU is an error (host_block.hpp).
//
// A kernel is a struct. Its fields are its arguments, `threads` is the size of a block (a multiple of 32),
// `Shared` what the threads of a block have in common (at most 227 KB), and the call operator what one thread
// does. `blocks_per_sm`, where there is one, says how many blocks must fit beside each other.

#include <concepts>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#define PLAIT_DEVICE __device__ __forceinline__
#define PLAIT_BOTH __host__ __device__ __forceinline__
// Before a loop that must vanish, as its counter indexes registers; the other one is for speed alone.
#define PLAIT_UNROLL _Pragma("unroll")
#define PLAIT_PRAGMA(x) _Pragma(#x)
#define PLAIT_UNROLL_BY(n) PLAIT_PRAGMA(unroll n)
#else
#define PLAIT_DEVICE inline
#define PLAIT_BOTH inline
#define PLAIT_UNROLL
#define PLAIT_UNROLL_BY(n)
#endif

namespace plait::cuda {

inline constexpr int warp_size = 32;

/// What a block can have of shared memory, and what of it a compiler lays out; more is asked for at a launch.
inline constexpr int most_shared_bytes = 227 << 10, most_static_bytes = 48 << 10;

class Block;
struct NoShared {};

template <class K>
concept Kernel =
    std::is_trivially_copyable_v<K> && std::is_trivial_v<typename K::Shared> && K::threads % warp_size == 0 &&
    K::threads <= 1024 &&
    sizeof(typename K::Shared) <= most_shared_bytes&& requires(K const& kernel, Block const& block,
                                                               typename K::Shared& shared) {
    { kernel(block, shared) } -> std::same_as<void>;
    { K::name } -> std::convertible_to<char const*>;
};

/// What a launch asks for: all of the shared memory, or nothing where it is laid out by the compiler.
template <Kernel K>
inline constexpr int dynamic_bytes = sizeof(typename K::Shared) > most_static_bytes
                                         ? static_cast<int>(sizeof(typename K::Shared))
                                         : 0;

/// The words of an access of 4 * n bytes.
template <int n>
struct Words {
    std::uint32_t at[n];
};

template <class T>
PLAIT_BOTH constexpr T smaller(T a, T b) {
    return a < b ? a : b;
}
/// n / size, rounded up.
PLAIT_BOTH constexpr std::int64_t pieces(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

/// a / b for a >= 0, b > 0; GPUs divide 32 bits in a fraction of the time.
PLAIT_BOTH std::int64_t quotient(std::int64_t a, std::int64_t b) {
    if (((a | b) >> 32) == 0) return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
    return a / b;
}

/// Whether all of these addresses are multiples of 16; null ones are.
template <class... P>
PLAIT_BOTH bool aligned(P const*... p) {
    return ((reinterpret_cast<std::uintptr_t>(p) | ...) & 15) == 0;
}

}  // namespace plait::cuda

#ifdef __CUDACC__
#include "cuda/device/cuda_block.cuh"
#else
#include "cuda/device/host_block.hpp"
#endif
