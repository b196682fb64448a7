#pragma once

#include "plait/models/config.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/view.hpp"

namespace plait::models {

/// What every language model here shares: an embedding `tokens`, `hidden(ids)`, and a `head` unless tied.
template <class Model>
Tensor output_weight(Model const& model) {
    return model.head ? Tensor(model.head->weight) : Tensor(model.tokens.weight);
}

/// Its rows that are classes, without padding.
template <class Model>
Tensor class_weight(Model const& model) {
    Tensor w = output_weight(model);
    auto const vocab = model.config.vocab;
    return w.size(0) == vocab ? w : slice(w, 0, 0, vocab);
}

/// Logits [batch, seq, vocab] of tokens i32[batch, seq].
template <class Model>
Tensor logits(Model const& model, Tensor const& ids) {
    Tensor x = model.hidden(ids);
    Scope scope("head");
    return linear(x, class_weight(model));
}

/// Mean loss of the targets that are not negative; the logits are made `config.loss_chunk` tokens at a time.
template <class Model>
Tensor loss(Model const& model, Tensor const& ids, Tensor const& targets) {
    Tensor x = model.hidden(ids);
    Scope scope("head");
    auto const& c = model.config;
    auto const classes = c.vocab_rows() == c.vocab ? 0 : c.vocab;
    return c.loss_chunk ? linear_cross_entropy(x, output_weight(model), targets, c.loss_chunk, classes)
                        : cross_entropy(linear(x, output_weight(model)), targets, classes);
}

}  // namespace plait::models
