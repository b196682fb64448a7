#pragma once

#include "plait/core/random.hpp"
#include "plait/plait.hpp"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace plait::benchmark {

/// A model by name.
struct Size {
    char const *name, *family;
    std::int64_t layers, dim, heads, kv_heads, hidden, vocab;
    bool tied = true;
    std::int64_t rows = 8, seq = 256;  // of a batch

    models::Config config() const {
        models::Config c;
        c.layers = layers, c.dim = dim, c.heads = heads, c.kv_heads = kv_heads, c.hidden = hidden;
        c.vocab = vocab, c.tied = tied, c.seq = seq;
        return c;
    }
};

inline constexpr Size tiny{"tiny.toml", "llama", 16, 64, 8, 4, 128, 256, true, 16, 64};
inline constexpr Size llama_tiny{"llama-tiny", "llama", 6, 384, 6, 6, 1024, 4096};
inline constexpr Size gpt2_tiny{"gpt2-tiny", "gpt2", 6, 384, 6, 6, 1536, 4096};
inline constexpr Size sizes[] = {
    llama_tiny,
    gpt2_tiny,
    {"gpt2-124m", "gpt2", 12, 768, 12, 12, 3072, 50304},
    {"gpt2-355m", "gpt2", 24, 1024, 16, 16, 4096, 50304},
    {"gpt2-774m", "gpt2", 36, 1280, 20, 20, 5120, 50304},
    {"gpt2-1558m", "gpt2", 48, 1600, 25, 25, 6400, 50304},
    {"qwen-0.5b", "llama", 24, 896, 14, 2, 4864, 151936},
    {"llama-1b", "llama", 22, 2048, 32, 4, 5632, 32000, false},
    {"llama-7b", "llama", 32, 4096, 32, 8, 14336, 128256, false},
};

/// Throws UsageError with the names there are.
inline Size const& size_of(std::string const& model, std::string_view program) {
    std::string names;
    for (auto const& s : sizes) {
        if (s.name == model) return s;
        names += (names.empty() ? "" : ", ") + std::string(s.name);
    }
    fail<UsageError>("{}: there is no model {}: use one of {}", program, model, names);
}

/// A model with its optimizer, the step of a plan over them (forward, backward, clipping, AdamW), and a batch
/// of random tokens.
template <class Model>
struct Training {
    models::Config config;
    Model model;
    optim::AdamW adam;
    std::shared_ptr<State> variables;
    Step step;
    std::map<std::string, Array> batch;

    /// `master` is what matrices are kept in, with bf16 also their moments.
    Training(models::Config const& c, std::int64_t rows, Plan const& plan, std::shared_ptr<Backend> backend,
             DType master = f32)
        : config(c),
          model(kept_in(master, c)),
          adam{.bf16_moments = master},
          variables(state(model, adam, std::move(backend))),
          step(compile(plan, variables, token_columns(rows, c.seq), [&](Batch const& b) -> Row {
              auto [loss, gradients] =
                  value_and_gradients(model, [&] { return models::loss(model, b.tokens, b.targets); });
              auto norm = clip_norm(gradients, 1.0);
              adam.update(model, gradients);
              return {{"loss", loss}, {"grad_norm", norm}};
          })) {
        for (auto const* name : {"tokens", "targets"}) batch[name] = Array(Meta{i32, {rows, c.seq}});
        draw();
    }

    static Model kept_in(DType master, models::Config const& c) {
        Model m(c);
        nn::keep_matrices_in(m, master);
        return m;
    }
    /// Other tokens.
    void draw() {
        Random const random{7, hash_name("tokens"), static_cast<std::uint32_t>(step.steps_done())};
        auto const tokens = batch["tokens"].template values<std::int32_t>();
        auto const targets = batch["targets"].template values<std::int32_t>();
        auto at = [&](std::size_t i) {
            return static_cast<std::int32_t>(random.uniform(i) * static_cast<double>(config.vocab));
        };
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            tokens[i] = i ? targets[i - 1] : at(0);
            targets[i] = at(i + 1);
        }
    }
    /// Runs a step and gives its loss.
    double once() { return step(batch)[0].second.item(); }
};

}  // namespace plait::benchmark
