#pragma once

// block.cuh on a GPU.

#include "cuda/device/block.cuh"

#include <stdexcept>
#include <string>

namespace plait::cuda {

/// The block that a thread is in.
class Block {
  public:
    PLAIT_DEVICE int thread() const { return static_cast<int>(threadIdx.x); }
    /// The same, asked for anew: nothing that was made of it before is kept in registers for what follows.
    PLAIT_DEVICE int thread_anew() const {
        int thread;
        asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
        return thread;
    }
    PLAIT_DEVICE int index() const { return static_cast<int>(blockIdx.x); }
    PLAIT_DEVICE int blocks() const { return static_cast<int>(gridDim.x); }

    /// Waits for all threads of the block; what they wrote is seen after it.
    PLAIT_DEVICE void barrier() const { __syncthreads(); }

    /// The value of another lane of the warp. All 32 must come.
    template <class T>
    PLAIT_DEVICE T shuffle_xor(T value, int mask) const {
        return __shfl_xor_sync(~0u, value, mask);
    }
    template <class T>
    PLAIT_DEVICE T shuffle(T value, int lane) const {
        return __shfl_sync(~0u, value, lane);
    }

    /// Whether it is so for any thread of the warp. All 32 must come.
    PLAIT_DEVICE bool any(bool here) const { return __any_sync(~0u, here) != 0; }

    /// Of any memory. Integers only: their order leaves no trace.
    PLAIT_DEVICE void atomic_max(std::uint32_t* to, std::uint32_t value) const { atomicMax(to, value); }
    PLAIT_DEVICE void atomic_add(std::uint32_t* to, std::uint32_t value) const { atomicAdd(to, value); }
    PLAIT_DEVICE void atomic_add(std::int64_t* to, std::int64_t value) const {
        atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
    }
};

/// One access of 8 or 16 bytes of global memory, at an address that is a multiple of that.
template <int n>
PLAIT_DEVICE Words<n> load_words(void const* from) {
    static_assert(n == 2 || n == 4);
    __builtin_assume(__isGlobal(from));
    if constexpr (n == 2) {
        auto v = *static_cast<uint2 const*>(from);
        return {{v.x, v.y}};
    } else {
        auto v = *static_cast<uint4 const*>(from);
        return {{v.x, v.y, v.z, v.w}};
    }
}
/// Written out, as nvcc 13.0 else takes a store apart to share its pieces with the path of narrow ones.
template <int n>
PLAIT_DEVICE void store_words(void* to, Words<n> const& w) {
    static_assert(n == 2 || n == 4);
    auto address = __cvta_generic_to_global(to);
    if constexpr (n == 2)
        asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(w.at[0]), "r"(w.at[1])
                     : "memory");
    else
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(w.at[0]), "r"(w.at[1]),
                     "r"(w.at[2]), "r"(w.at[3])
                     : "memory");
}

/// Blocks that shall run beside each other on a multiprocessor, which limits registers; 0 leaves it to ptxas.
template <Kernel K>
inline constexpr int blocks_per_sm = [] {
    if constexpr (requires { K::blocks_per_sm; }) return K::blocks_per_sm;
    else return 0;
}();

/// `dynamic` stands in the name for resources.sh: ptxas does not see what a launch asks for.
template <Kernel K, int dynamic = dynamic_bytes<K>>
__global__ void __launch_bounds__(K::threads, blocks_per_sm<K>) run(__grid_constant__ K const kernel) {
    if constexpr (dynamic > 0) {
        extern __shared__ __align__(128) unsigned char asked_for[];
        static_assert(alignof(typename K::Shared) <= 128);
        kernel(Block(), *reinterpret_cast<typename K::Shared*>(asked_for));
    } else {
        __shared__ typename K::Shared shared;
        kernel(Block(), shared);
    }
}

/// Runs `blocks` blocks of the kernel on a stream. Throws std::runtime_error with the kernel's name where it
/// cannot be launched.
template <Kernel K>
void launch(K const& kernel, std::int64_t blocks, cudaStream_t stream) {
    if (blocks == 0) return;
    constexpr int asked = dynamic_bytes<K>;
    auto error = cudaSuccess;
    if (asked > 0) error = cudaFuncSetAttribute(run<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, asked);
    if (error == cudaSuccess) {
        run<K><<<static_cast<unsigned>(blocks), K::threads, asked, stream>>>(kernel);
        error = cudaGetLastError();
    }
    if (error != cudaSuccess)
        throw std::runtime_error(std::string(K::name) + ": not launched: " + cudaGetErrorString(error));
}

}  // namespace plait::cuda
