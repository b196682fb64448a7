#pragma once

#include "plait/models/config.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"

namespace plait::models {

/// What every language model here shares: an embedding `tokens`, `hidden(ids)`, and a `head` unless tied.
template <class Model>
Tensor output_weight(Model const& model) {
    return model.head ? Tensor(model.head->weight) : Tensor(model.tokens.weight);
}

/// Logits [batch, seq, vocab] of tokens i32[batch, seq].
template <class Model>
Tensor logits(Model const& model, Tensor const& ids) {
    Tensor x = model.hidden(ids);
    Scope scope("head");
    return linear(x, output_weight(model));
}

/// Mean loss of the targets that are not negative; the logits are made `config.loss_chunk` tokens at a time.
template <class Model>
Tensor loss(Model const& model, Tensor const& ids, Tensor const& targets) {
    Tensor x = model.hidden(ids);
    Scope scope("head");
    auto chunk = model.config.loss_chunk;
    return chunk ? linear_cross_entropy(x, output_weight(model), targets, chunk)
                 : cross_entropy(linear(x, output_weight(model)), targets);
}

}  // namespace plait::models
