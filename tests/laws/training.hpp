#pragma once

#include "plait/core/random.hpp"
#include "plait/plait.hpp"

#include <memory>
#include <string>
#include <vector>

namespace tests {

using namespace plait;

/// A training step and what it must not outlive.
struct Training {
    std::shared_ptr<void> model;
    std::shared_ptr<optim::AdamW> adam;
    std::shared_ptr<State> state;
    std::shared_ptr<Step> step;
    std::int64_t batch, seq, vocab;

    /// Runs once, on tokens that depend on the step alone.
    Values operator()() const {
        auto number = step->steps_done();
        Array tokens({i32, {batch, seq}}), targets({i32, {batch, seq}});
        // Without a period: micro-batches that change places must be seen.
        auto drawn = [&](std::int64_t i, std::uint64_t column) {
            auto const at = static_cast<std::uint64_t>(number * batch * seq + i) * 2 + column;
            return static_cast<std::int32_t>(mix(at) % static_cast<std::uint64_t>(vocab));
        };
        for (std::int64_t i = 0; i < batch * seq; ++i) {
            tokens.values<std::int32_t>()[static_cast<std::size_t>(i)] = drawn(i, 0);
            targets.values<std::int32_t>()[static_cast<std::size_t>(i)] = i % 5 ? drawn(i, 1) : -1;
        }
        return (*step)({{"tokens", tokens}, {"targets", targets}});
    }
};

template <class Model>
Training training(models::Config const& config, Plan const& plan, std::shared_ptr<Backend> backend,
                  std::int64_t batch, std::int64_t seq, DType master = f32) {
    auto model = std::make_shared<Model>(config);
    nn::keep_matrices_in(*model, master);
    auto adam = std::make_shared<optim::AdamW>();
    auto all = plait::state(*model, *adam, std::move(backend));
    auto step = compile(plan, all, token_columns(batch, seq), [&](Batch const& b) -> Row {
        auto [loss, gradients] =
            value_and_gradients(*model, [&] { return models::loss(*model, b.tokens, b.targets); });
        auto norm = clip_norm(gradients, 1.0);
        adam->update(*model, gradients);
        return {{"loss", loss}, {"grad_norm", norm}};
    });
    return {model, adam, all, std::make_shared<Step>(std::move(step)), batch, seq, config.vocab};
}

inline Training training(std::string const& family, models::Config const& config, Plan const& plan,
                         std::shared_ptr<Backend> backend, std::int64_t batch, std::int64_t seq,
                         DType master = f32) {
    return family == "gpt2" ? training<models::Gpt2>(config, plan, std::move(backend), batch, seq, master)
                            : training<models::Llama>(config, plan, std::move(backend), batch, seq, master);
}

}  // namespace tests
