#include "cuda/rows.hpp"

#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"
#include "plait/ops/attention.hpp"
#include "plait/ops/cache.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/norm.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"
#include "plait/ops/view.hpp"

namespace plait::cuda {

void unsupported(KernelCall const& call, DType dtype) {
    fail("{}: a GPU has no kernel for {}: cast it to f32 or bf16, or run on the CPU", call.op->text(),
         plait::name_of(dtype));
}

KernelTable rows() {
    // op, what puts it on a queue, bytes of workspace, the outputs (bits) that it can add to, many at once
    static constexpr KernelRow table[] = {
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
        {StochasticRound::name, stochastic_round},
        {Reduce::name, reduce, reduce_workspace, 0b1},
        {Expand::name, expand},
        {Softmax::name, softmax},
        {SoftmaxGradient::name, softmax_gradient},
        {LayerNorm::name, layer_norm, norm_workspace},
        {LayerNormGradient::name, layer_norm_gradient, layer_norm_gradient_workspace, 0b110},
        {RmsNorm::name, rms_norm, norm_workspace},
        {RmsNormGradient::name, rms_norm_gradient, rms_norm_gradient_workspace, 0b10},
        {RopeTable::name, rope_table},
        {RopeAt::name, rope_at},
        {Rope::name, rope},
        {Embedding::name, embedding},
        {EmbeddingGradient::name, embedding_gradient, embedding_gradient_workspace, 0b1},
        {CrossEntropy::name, cross_entropy},
        {Pick::name, pick},
        {CrossEntropyGradient::name, cross_entropy_gradient},
        {AdamWUpdate::name, adamw, nullptr, 0, adamw_many},
        {MaxAbsolute::name, max_absolute, nullptr, 0, max_absolute_many},
        {Squares::name, squares, nullptr, 0, squares_many},
        {NormOfSquares::name, norm_of_squares},
        {Reshape::name, reshape},
        {Transpose::name, transpose},
        {Slice::name, slice},
        {Pad::name, pad},
        {Concat::name, concat},
        {Fold::name, fold},
        {Commit::name, commit},
        {MicroTake::name, micro_take},
        {MicroStack::name, micro_stack},
        {MicroSum::name, micro_sum},
        {MicroTree::name, micro_tree},
        {Part::name, part},
        {Join::name, join},
        {LeafTree::name, leaf_tree},
        {Product::name, product, product_workspace, 0b1, product_many},
        {Linear::name, linear, linear_workspace, 0, linear_many},
        {ProductGeluGradient::name, product_gelu_gradient, product_gelu_gradient_workspace, 0,
         product_gelu_gradient_many},
        {LinearGradient::name, linear_gradient, linear_gradient_workspace, 0b11, linear_gradient_many},
        {MatMul::name, matmul, matmul_workspace},
        {Attention::name, attention, attention_workspace},
        {AttentionGradient::name, attention_gradient, attention_gradient_workspace},
        {CacheWrite::name, cache_write},
        {CachedAttention::name, cached_attention},
        {LinearCrossEntropy::name, linear_cross_entropy, linear_cross_entropy_workspace},
        {LinearLossBlocks::name, linear_loss_blocks, linear_loss_blocks_workspace},
        {LinearCrossEntropyGradient::name, linear_cross_entropy_gradient,
         linear_cross_entropy_gradient_workspace, 0b10},
        {LinearCrossEntropyStep::name, linear_cross_entropy_step, linear_cross_entropy_step_workspace,
         0b1000},
    };
    return table;
}

}  // namespace plait::cuda
