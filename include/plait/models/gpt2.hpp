#pragma once

#include "plait/models/config.hpp"
#include "plait/nn/attention.hpp"
#include "plait/ops/loss.hpp"

#include <cmath>
#include <optional>

namespace plait::models {

/// The feed-forward part of GPT-2: down(gelu(up(x))), with biases.
struct Gpt2Mlp {
    nn::Linear up, down;

    explicit Gpt2Mlp(Config const& c)
        : up(c.dim, hidden(c), true),
          down(hidden(c), c.dim, true, Init::normal(0.02 / std::sqrt(2.0 * static_cast<double>(c.layers)))) {}

    static std::int64_t hidden(Config const& c) { return c.hidden ? c.hidden : 4 * c.dim; }

    Tensor operator()(Tensor const& x) const { return down(gelu(up(x))); }

    using fields = Fields<&Gpt2Mlp::up, &Gpt2Mlp::down>;
};

struct Gpt2Block {
    nn::LayerNorm attention_norm;
    nn::SelfAttention attention;
    nn::LayerNorm mlp_norm;
    Gpt2Mlp mlp;
    double dropout;

    explicit Gpt2Block(Config const& c)
        : attention_norm(c.dim, c.norm_eps),
          attention(c.dim, c.heads, c.kv(), true,
                    Init::normal(0.02 / std::sqrt(2.0 * static_cast<double>(c.layers)))),
          mlp_norm(c.dim, c.norm_eps),
          mlp(c),
          dropout(c.dropout) {}

    Tensor operator()(Tensor const& x, nn::LayerCache const& cache = {}) const {
        Tensor y = x + nn::dropout(attention(attention_norm(x), {}, cache), dropout);
        return y + nn::dropout(mlp(mlp_norm(y)), dropout);
    }

    using fields =
        Fields<&Gpt2Block::attention_norm, &Gpt2Block::attention, &Gpt2Block::mlp_norm, &Gpt2Block::mlp>;
};

/// GPT-2: learned positions, layer norm, GELU, biases. Radford et al., "Language models are unsupervised
/// multitask learners", 2019.
struct Gpt2 {
    Config config;
    nn::Embedding tokens, positions;
    nn::Stack<Gpt2Block> blocks;
    nn::LayerNorm norm;
    std::optional<nn::Linear> head;  // empty when tied

    explicit Gpt2(Config const& c)
        : config(c), tokens(c.vocab_rows(), c.dim), positions(c.seq, c.dim), norm(c.dim, c.norm_eps) {
        for (std::int64_t i = 0; i < c.layers; ++i) blocks.blocks.emplace_back(c);
        tokens.weight.count_rows(c.vocab);
        if (c.tied) return;
        head.emplace(c.dim, c.vocab_rows());
        head->weight.count_rows(c.vocab);
    }

    /// The last hidden state [batch, seq, dim] of tokens i32[batch, seq]; with a cache they follow those that
    /// it keeps. No sequence is longer than config.seq.
    Tensor hidden(Tensor const& ids, nn::KeyValueCache const& cache = {}) const {
        check<ShapeError>(ids.rank() == 2, "gpt2: tokens are {}, want i32[batch, seq]",
                          to_string(ids.meta()));
        auto longest = cache ? cache.length() : ids.size(1);
        check<ShapeError>(longest <= config.seq, "gpt2: a sequence of {} is longer than its {} positions",
                          longest, config.seq);
        Tensor x = tokens(ids);
        // Where there is no token there is a negative position: any row serves.
        x = x + (cache ? positions(maximum(cache.positions, full({}, 0, i32)))
                       : slice(positions.weight, 0, 0, ids.size(1)));
        x = nn::dropout(x, config.dropout);
        return norm(blocks.each(x, [&](Gpt2Block const& block, Tensor const& y, std::size_t i) {
            return block(y, cache.layer(i));
        }));
    }

    using fields = Fields<&Gpt2::tokens, &Gpt2::positions, &Gpt2::blocks, &Gpt2::norm, &Gpt2::head>;
};

}  // namespace plait::models
