#pragma once

// Every kernel. None has run on a GPU.

#include "cuda/kernels/elementwise.cuh"
#include "cuda/kernels/embedding.cuh"
#include "cuda/kernels/gradient_norm.cuh"
#include "cuda/kernels/loss.cuh"
#include "cuda/kernels/norm.cuh"
#include "cuda/kernels/rope.cuh"
#include "cuda/kernels/tree_sum.cuh"
#include "cuda/kernels/update.cuh"

namespace plait::cuda {

template <Kernel... K>
struct Kernels {
    static constexpr int count = sizeof...(K);
    template <class One>
    static constexpr bool contains = (std::is_same_v<One, K> || ...);
    /// Which line is that of this kernel.
    template <class One>
    static constexpr int index_of = [] {
        int i = 0, found = -1;
        ((std::is_same_v<One, K> ? void(found = i) : void(), ++i), ...);
        return found;
    }();
    /// {f<K>()...}
    template <class F>
    static constexpr auto each(F f) {
        return f.template operator()<K...>();
    }
};

inline constexpr int warp = warp_size, whole_block = 256;
inline constexpr bool layer = true, rms = false;

using Table = Kernels<
    // dtype, layer or RMS norm, who shares a row: up to 2048 and 16384 columns of bf16, half as many of f32
    NormForward<Bf16, layer, warp>, NormForward<Bf16, layer, whole_block>,  //
    NormForward<Bf16, rms, warp>, NormForward<Bf16, rms, whole_block>,      //
    NormForward<float, layer, warp>, NormForward<float, layer, whole_block>, NormForward<float, rms, warp>,
    NormForward<float, rms, whole_block>,
    // and how many packs a thread holds, who adds up dgain and dbias over rows: up to 1024, 4096, 8192
    // columns of bf16
    NormBackward<Bf16, layer, warp, 4>, NormBackward<Bf16, layer, whole_block, 2>,
    NormBackward<Bf16, layer, whole_block, 4>,  //
    NormBackward<Bf16, rms, warp, 4>, NormBackward<Bf16, rms, whole_block, 2>,
    NormBackward<Bf16, rms, whole_block, 4>,  //
    NormBackward<float, layer, warp, 8>, NormBackward<float, layer, whole_block, 4>,
    NormBackward<float, layer, whole_block, 8>,  //
    NormBackward<float, rms, warp, 8>, NormBackward<float, rms, whole_block, 4>,
    NormBackward<float, rms, whole_block, 8>,  //
    ColumnSums,
    // element by element
    Map<Gelu, Bf16>, Map<Gelu, float>, Map<GeluGradient, Bf16>, Map<GeluGradient, float>,  //
    Map<SwiGlu, Bf16>, Map<SwiGlu, float>, Map<SwiGluGradient, Bf16>, Map<SwiGluGradient, float>,
    Map<Copy, float, Bf16>, Map<Copy, Bf16, float>,
    // rotary embedding
    Rope<Bf16>, Rope<float>,
    // tokens and loss
    Embedding<Bf16>, Embedding<float>, CrossEntropy<Bf16>, CrossEntropy<float>,
    // the gradients' norm, and the update, by the gradients' dtype
    MaxAbsolute<Bf16>, MaxAbsolute<float>, Squares<Bf16>, Squares<float>, NormOfSquares,  //
    AdamW<Bf16>, AdamW<float>,
    // sums over ranks in one order
    TreeSum<float>, TreeSum<Bf16>, TreeSum<double>, TreeSum<std::int32_t>, TreeSum<std::int64_t>>;

}  // namespace plait::cuda
