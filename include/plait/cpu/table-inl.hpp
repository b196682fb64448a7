#pragma once

#include "plait/cpu/kernels/attention-inl.hpp"
#include "plait/cpu/kernels/binary-inl.hpp"
#include "plait/cpu/kernels/cache-inl.hpp"
#include "plait/cpu/kernels/dropout-inl.hpp"
#include "plait/cpu/kernels/elementwise-inl.hpp"
#include "plait/cpu/kernels/embedding-inl.hpp"
#include "plait/cpu/kernels/gradient_norm-inl.hpp"
#include "plait/cpu/kernels/linear_loss-inl.hpp"
#include "plait/cpu/kernels/matmul-inl.hpp"
#include "plait/cpu/kernels/micro-inl.hpp"
#include "plait/cpu/kernels/norm-inl.hpp"
#include "plait/cpu/kernels/reduce-inl.hpp"
#include "plait/cpu/kernels/rope-inl.hpp"
#include "plait/cpu/kernels/rows-inl.hpp"
#include "plait/cpu/kernels/update-inl.hpp"
#include "plait/cpu/kernels/view-inl.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

PLAIT_INLINE KernelTable kernels() {
    // op, kernel, bytes of workspace, the outputs (bits) that it can add to
    static constexpr KernelRow rows[] = {
        {Unary::name, unary},
        {UnaryGradient::name, unary_gradient},
        {Affine::name, affine},
        {Binary::name, binary},
        {Cast::name, cast},
        {Select::name, select},
        {Full::name, full},
        {Iota::name, iota},
        {SwiGlu::name, swiglu},
        {SwiGluGradient::name, swiglu_gradient},
        {Dropout::name, dropout},
        {Reduce::name, reduce, reduce_workspace, 0b1},
        {Expand::name, expand},
        {Softmax::name, softmax, softmax_workspace},
        {SoftmaxGradient::name, softmax_gradient, softmax_gradient_workspace},
        {Reshape::name, reshape},
        {Transpose::name, transpose},
        {Slice::name, slice},
        {Pad::name, pad},
        {Concat::name, concat},
        {LayerNorm::name, layer_norm, norm_workspace},
        {LayerNormGradient::name, layer_norm_gradient, norm_gradient_workspace, 0b110},
        {RmsNorm::name, rms_norm, norm_workspace},
        {RmsNormGradient::name, rms_norm_gradient, norm_gradient_workspace, 0b10},
        {RopeTable::name, rope_table},
        {RopeAt::name, rope_at},
        {Rope::name, rope},
        {Embedding::name, embedding},
        {EmbeddingGradient::name, embedding_gradient, embedding_gradient_workspace, 0b1},
        {CrossEntropy::name, cross_entropy, cross_entropy_workspace},
        {Pick::name, pick},
        {CrossEntropyGradient::name, cross_entropy_gradient, cross_entropy_gradient_workspace},
        {AdamWUpdate::name, adamw},
        {StochasticRound::name, stochastic_round},
        {MaxAbsolute::name, max_absolute, max_absolute_workspace},
        {Squares::name, squares, squares_workspace},
        {NormOfSquares::name, norm_of_squares},
        {Fold::name, fold_tensors},
        {Commit::name, commit},
        {MicroTake::name, micro_take},
        {MicroStack::name, micro_stack},
        {MicroSum::name, micro_sum},
        {MicroTree::name, micro_tree},
        {Part::name, part},
        {Join::name, join},
        {LeafTree::name, leaf_tree},
        {Product::name, product, product_workspace, 0b1},
        {Linear::name, linear, linear_workspace},
        {ProductGeluGradient::name, product_gelu_gradient, product_gelu_gradient_workspace},
        {MatMul::name, matmul, matmul_workspace},
        {Attention::name, attention, attention_workspace},
        {AttentionGradient::name, attention_gradient, attention_gradient_workspace},
        {CacheWrite::name, cache_write},
        {CachedAttention::name, cached_attention, cached_attention_workspace},
        {LinearCrossEntropy::name, linear_cross_entropy, linear_cross_entropy_workspace},
        {LinearLossBlocks::name, linear_loss_blocks, linear_loss_blocks_workspace},
        {LinearCrossEntropyGradient::name, linear_cross_entropy_gradient,
         linear_cross_entropy_gradient_workspace, 0b10},
        {LinearCrossEntropyStep::name, linear_cross_entropy_step, linear_cross_entropy_step_workspace,
         0b1000},
    };
    return rows;
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
