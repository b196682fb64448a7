#pragma once

// Every kernel. None has run on a GPU.

#include "cuda/kernels/attention.cuh"
#include "cuda/kernels/attention_gradient.cuh"
#include "cuda/kernels/cache.cuh"
#include "cuda/kernels/copy.cuh"
#include "cuda/kernels/elementwise.cuh"
#include "cuda/kernels/embedding.cuh"
#include "cuda/kernels/embedding_gradient.cuh"
#include "cuda/kernels/epilogue.cuh"
#include "cuda/kernels/gradient_norm.cuh"
#include "cuda/kernels/linear_loss.cuh"
#include "cuda/kernels/long_norm.cuh"
#include "cuda/kernels/loss.cuh"
#include "cuda/kernels/many.cuh"
#include "cuda/kernels/mark.cuh"
#include "cuda/kernels/norm.cuh"
#include "cuda/kernels/pointwise.cuh"
#include "cuda/kernels/product.cuh"
#include "cuda/kernels/random.cuh"
#include "cuda/kernels/reduction.cuh"
#include "cuda/kernels/rope.cuh"
#include "cuda/kernels/softmax.cuh"
#include "cuda/kernels/tensor_attention.cuh"
#include "cuda/kernels/tensor_attention_gradient.cuh"
#include "cuda/kernels/tree_sum.cuh"
#include "cuda/kernels/unary.cuh"
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
    // and how many packs a thread holds, who adds up dgain and dbias over rows: up to 768, 1024, 4096, 8192
    // columns of bf16
    NormBackward<Bf16, layer, warp, 3>, NormBackward<Bf16, layer, warp, 4>,
    NormBackward<Bf16, layer, whole_block, 2>, NormBackward<Bf16, layer, whole_block, 4>,  //
    NormBackward<Bf16, rms, warp, 3>, NormBackward<Bf16, rms, warp, 4>,
    NormBackward<Bf16, rms, whole_block, 2>, NormBackward<Bf16, rms, whole_block, 4>,  //
    NormBackward<float, layer, warp, 8>, NormBackward<float, layer, whole_block, 4>,
    NormBackward<float, layer, whole_block, 8>,  //
    NormBackward<float, rms, warp, 8>, NormBackward<float, rms, whole_block, 4>,
    NormBackward<float, rms, whole_block, 8>,  //
    // rows of any length
    LongNormForward<Bf16, layer>, LongNormForward<Bf16, rms>, LongNormForward<float, layer>,
    LongNormForward<float, rms>,  //
    LongNormSums<Bf16, layer>, LongNormSums<Bf16, rms>, LongNormSums<float, layer>, LongNormSums<float, rms>,
    LongNormBackward<Bf16, layer>, LongNormBackward<Bf16, rms>, LongNormBackward<float, layer>,
    LongNormBackward<float, rms>,  //
    ColumnSums,
    // element by element
    Map<Gelu, Bf16>, Map<Gelu, float>, Map<GeluGradient, Bf16>, Map<GeluGradient, float>,  //
    Map<SwiGlu, Bf16>, Map<SwiGlu, float>, Map<SwiGluGradient, Bf16>, Map<SwiGluGradient, float>,
    Map<Copy, float, Bf16>, Map<Copy, Bf16, float>,  //
    UnaryMap<Bf16>, UnaryMap<float>, UnaryGradientMap<Bf16>, UnaryGradientMap<float>, BinaryMap<Bf16, Bf16>,
    BinaryMap<float, float>, BinaryMap<Bf16, float>, BinaryMap<float, Bf16>, Pointwise<float>,
    Pointwise<std::int64_t>, FoldMap<Bf16>, FoldMap<float>, RandomMap<Dropped, Bf16>,
    RandomMap<Dropped, float>, RandomMap<RoundedAtRandom, float, Bf16>,
    // along dims, by what is read
    ReduceRows<FloatInput<Bf16>, Sum>, ReduceRows<FloatInput<float>, Sum>, ReduceRows<IntegerInput, Sum>,
    ReduceRows<FloatInput<Bf16>, Largest>, ReduceRows<FloatInput<float>, Largest>,
    ReduceRows<IntegerInput, Largest>,  //
    ReduceColumns<FloatInput<Bf16>, Sum>, ReduceColumns<FloatInput<float>, Sum>,
    ReduceColumns<IntegerInput, Sum>, ReduceColumns<FloatInput<Bf16>, Largest>,
    ReduceColumns<FloatInput<float>, Largest>, ReduceColumns<IntegerInput, Largest>,  //
    SoftmaxRows<Bf16>, SoftmaxRows<float>, SoftmaxGradientRows<Bf16>, SoftmaxGradientRows<float>,
    // bytes, by how many are moved at once
    CopyMap<1>, CopyMap<2>, CopyMap<4>, CopyMap<8>, CopyMap<16>, TransposeMap<1>, TransposeMap<2>,
    TransposeMap<4>, TransposeMap<8>, CopyChosen, Fill,
    // rotary embedding
    RopeAngles, Rope<Bf16>, Rope<float>,
    // tokens and loss
    Embedding<Bf16>, Embedding<float>,                                   //
    RadixCount, RadixScatter, RowBegins, RowSums<Bf16>, RowSums<float>,  //
    Pick<Bf16>, Pick<float>,                                             //
    // and by how many threads a row has: up to 16384, 32768, 65536 classes of bf16 in registers, half as many
    // of f32
    LossRows<Bf16, 256>, LossRows<Bf16, 512>, LossRows<Bf16, 1024>, LossRows<float, 256>,
    LossRows<float, 512>, LossRows<float, 1024>, LinearLossParts<Bf16>, LinearLossParts<float>,
    // sums of products
    RoundSum,
    // attention of bf16 on tensor cores, by how wide a head may be
    TensorAttention<64>, TensorAttention<128>, TensorQueryGradient<64>, TensorQueryGradient<128>,
    TensorKeyGradient<64>, TensorKeyGradient<128>,
    // attention of the rest without them, by how many columns of a head a block does
    AttentionForward<Bf16, 64>, AttentionForward<Bf16, 128>, AttentionForward<float, 64>,
    AttentionForward<float, 128>,  //
    AttentionDelta<Bf16>, AttentionDelta<float>, AttentionQueryGradient<Bf16, 64>,
    AttentionQueryGradient<Bf16, 128>, AttentionQueryGradient<float, 64>, AttentionQueryGradient<float, 128>,
    AttentionKeyGradient<Bf16, 64>, AttentionKeyGradient<float, 64>,
    // generation: tokens to cache, queries and cache
    CacheWriteRows<float, float>, CacheWriteRows<float, Bf16>, CacheWriteRows<Bf16, float>,
    CacheWriteRows<Bf16, Bf16>,  //
    CacheAttention<float, float>, CacheAttention<float, Bf16>, CacheAttention<Bf16, Bf16>,
    // the gradients' norm, and the update, by the dtypes of parameter, gradient and moments, and where the
    // parameter is rounded at random
    Clear, MaxAbsolute<Bf16>, MaxAbsolute<float>, Squares<Bf16>, Squares<float>, NormOfSquares,  //
    AdamW<float, float, float>, AdamW<Bf16, Bf16, Bf16>, AdamW<Bf16, Bf16, float>, AdamW<Bf16, float, Bf16>,
    AdamW<Bf16, float, float>,  //
    AdamW<Bf16, Bf16, Bf16, true>, AdamW<Bf16, Bf16, float, true>, AdamW<Bf16, float, Bf16, true>,
    AdamW<Bf16, float, float, true>,
    // sums over ranks in one order
    TreeSum<float, few_levels>, TreeSum<Bf16, few_levels>, TreeSum<double, few_levels>,
    TreeSum<std::int32_t, few_levels>, TreeSum<std::int64_t, few_levels>,  //
    TreeSum<float, most_levels>, TreeSum<Bf16, most_levels>, TreeSum<double, most_levels>,
    TreeSum<std::int32_t, most_levels>, TreeSum<std::int64_t, most_levels>,
    // the machine's own: how far a stream is, what a library leaves of a product
    Mark, BiasRows<Bf16>, BiasRows<float>, GeluRows<Bf16>, GeluRows<float>>;

}  // namespace plait::cuda
