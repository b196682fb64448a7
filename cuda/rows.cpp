#include "cuda/rows.hpp"

#include "plait/ops/attention.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/norm.hpp"
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
    };
    return table;
}

}  // namespace plait::cuda
