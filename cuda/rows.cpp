#include "cuda/rows.hpp"

#include "plait/ops/attention.hpp"
#include "plait/ops/cache.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/view.hpp"

namespace plait::cuda {

void unsupported(KernelCall const& call, DType dtype) {
    fail("{}: a GPU has no kernel for {}: cast it to f32 or bf16, or run on the CPU", call.op->text(),
         plait::name_of(dtype));
}

KernelTable rows() {
    // op, what puts it on a queue, bytes of workspace, the outputs (bits) that it can add to, many at once
    static constexpr KernelRow table[] = {
        {Reshape::name, reshape},
        {Product::name, product, product_workspace, 0b1},
        {Linear::name, linear, linear_workspace},
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
