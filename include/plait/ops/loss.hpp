#pragma once

#include "plait/tensor.hpp"

namespace plait {

/// Negative log-likelihood of each target: (logits[..., vocab], targets i32[...]) -> (nll f32[...], lse
/// f32[...]); f64 for f64 logits. A negative target is ignored: its nll is 0. `vocab` stays whole here. In
/// all losses only the first `classes` of the vocabulary count (0: all); the rest is padding, of gradient 0.
struct CrossEntropy {
    static constexpr std::string_view name = "cross_entropy";
    std::int64_t classes = 0;
    using fields = Fields<&CrossEntropy::classes>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// Each row's element at its index: (x[..., n], index i32[...]) -> [...]; 0 where the index is negative. A
/// block of n gives zeros for the indices of other blocks. Indices are below `classes`, where that is not 0.
struct Pick {
    static constexpr std::string_view name = "pick";
    std::int64_t classes = 0;
    using fields = Fields<&Pick::classes>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

/// (logits, targets, lse, dnll[...]) -> dlogits.
struct CrossEntropyGradient {
    static constexpr std::string_view name = "cross_entropy_gradient";
    std::int64_t classes = 0;
    using fields = Fields<&CrossEntropyGradient::classes>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors define(Tensors const& x) const;
};

/// The output projection and its loss, `chunk` tokens at a time, so that the logits are never whole in
/// memory: (x[..., dim], w[vocab, dim], targets i32[...]) -> (nll f32[...], lse f32[...]). `vocab` stays
/// whole; the definition divides it into `blocks`, if more than one (passes/split_loss).
struct LinearCrossEntropy {
    static constexpr std::string_view name = "linear_cross_entropy";
    std::int64_t chunk = 1024;
    std::int64_t classes = 0;
    std::int64_t blocks = 1;
    using fields =
        Fields<&LinearCrossEntropy::chunk, &LinearCrossEntropy::classes, &LinearCrossEntropy::blocks>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// What each of `blocks` blocks of the vocabulary says of the loss, `chunk` tokens at a time: (x[..., dim],
/// w[vocab, dim], targets i32[...]) -> (lse f32[..., blocks], at_target f32[..., blocks]). The logit of a
/// target in another block is -inf, and so is the lse of a block that is all padding.
struct LinearLossBlocks {
    static constexpr std::string_view name = "linear_loss_blocks";
    std::int64_t chunk = 1024;
    std::int64_t classes = 0;
    std::int64_t blocks = 1;
    using fields = Fields<&LinearLossBlocks::chunk, &LinearLossBlocks::classes, &LinearLossBlocks::blocks>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    AnyOp localized(Metas const& in, Metas const& out) const;
    Tensors define(Tensors const& x) const;
};

/// (x, w, targets, lse, dnll[...]) -> (dx, dw f32[vocab, dim]); makes each chunk's logits again. Blocks of
/// the vocabulary give addends of dx.
struct LinearCrossEntropyGradient {
    static constexpr std::string_view name = "linear_cross_entropy_gradient";
    std::int64_t chunk = 1024;
    std::int64_t classes = 0;
    using fields = Fields<&LinearCrossEntropyGradient::chunk, &LinearCrossEntropyGradient::classes>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

/// Loss and gradients in one pass, where dnll is known before the loss:
/// (x, w, targets, dnll[...]) -> (nll, lse, dx, dw f32). Made by the fusion pass; each chunk's logits are
/// made once. `vocab` stays whole; the definition divides it into `blocks`.
struct LinearCrossEntropyStep {
    static constexpr std::string_view name = "linear_cross_entropy_step";
    std::int64_t chunk = 1024;
    std::int64_t classes = 0;
    std::int64_t blocks = 1;
    using fields = Fields<&LinearCrossEntropyStep::chunk, &LinearCrossEntropyStep::classes,
                          &LinearCrossEntropyStep::blocks>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

/// Mean negative log-likelihood over the targets that are not negative: logits [..., vocab], targets i32[...]
/// -> f32[].
/// Throws ShapeError for more `classes` than there are.
Tensor cross_entropy(Tensor const& logits, Tensor const& targets, std::int64_t classes = 0);
/// The same from the last hidden state and the output weight [vocab, dim], without ever holding all logits.
Tensor linear_cross_entropy(Tensor const& x, Tensor const& w, Tensor const& targets,
                            std::int64_t chunk = 1024, std::int64_t classes = 0);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/loss-inl.hpp"
#endif
