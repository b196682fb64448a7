#pragma once

#include "plait/models/config.hpp"
#include "plait/nn/attention.hpp"
#include "plait/ops/loss.hpp"

#include <cmath>
#include <optional>

namespace plait::models {

/// The feed-forward part of Llama: down(silu(gate(x)) * up(x)).
struct LlamaMlp {
    nn::Linear gate, up, down;

    explicit LlamaMlp(Config const& c)
        : gate(c.dim, hidden(c)),
          up(c.dim, hidden(c)),
          down(hidden(c), c.dim, false, Init::normal(0.02 / std::sqrt(2.0 * static_cast<double>(c.layers)))) {
    }

    static std::int64_t hidden(Config const& c) {
        return c.hidden ? c.hidden : (c.dim * 8 / 3 + 63) / 64 * 64;
    }

    // One by one: the order of arguments is the compiler's, the order of the program must not be.
    Tensor operator()(Tensor const& x) const {
        Tensor g = gate(x), u = up(x);
        return down(swiglu(g, u));
    }

    using fields = Fields<&LlamaMlp::gate, &LlamaMlp::up, &LlamaMlp::down>;
};

struct LlamaBlock {
    nn::RmsNorm attention_norm;
    nn::SelfAttention attention;
    nn::RmsNorm mlp_norm;
    LlamaMlp mlp;
    double dropout;

    explicit LlamaBlock(Config const& c)
        : attention_norm(c.dim, c.norm_eps),
          attention(c.dim, c.heads, c.kv(), false,
                    Init::normal(0.02 / std::sqrt(2.0 * static_cast<double>(c.layers)))),
          mlp_norm(c.dim, c.norm_eps),
          mlp(c),
          dropout(c.dropout) {}

    Tensor operator()(Tensor const& x, Tensor const& table, nn::LayerCache const& cache = {}) const {
        Tensor y = x + nn::dropout(attention(attention_norm(x), table, cache), dropout);
        return y + nn::dropout(mlp(mlp_norm(y)), dropout);
    }

    using fields =
        Fields<&LlamaBlock::attention_norm, &LlamaBlock::attention, &LlamaBlock::mlp_norm, &LlamaBlock::mlp>;
};

/// Llama: RMS norm, rotary positions, grouped-query attention, SwiGLU. Touvron et al., 2023; Grattafiori et
/// al., 2024.
struct Llama {
    Config config;
    nn::Embedding tokens;
    nn::Stack<LlamaBlock> blocks;
    nn::RmsNorm norm;
    std::optional<nn::Linear> head;  // empty when tied

    explicit Llama(Config const& c) : config(c), tokens(c.vocab_rows(), c.dim), norm(c.dim, c.norm_eps) {
        for (std::int64_t i = 0; i < c.layers; ++i) blocks.blocks.emplace_back(c);
        tokens.weight.count_rows(c.vocab);
        if (c.tied) return;
        head.emplace(c.dim, c.vocab_rows());
        head->weight.count_rows(c.vocab);
    }

    /// The last hidden state [batch, seq, dim] of tokens i32[batch, seq]; with a cache they follow those that
    /// it keeps.
    Tensor hidden(Tensor const& ids, nn::KeyValueCache const& cache = {}) const {
        check<ShapeError>(ids.rank() == 2, "llama: tokens are {}, want i32[batch, seq]",
                          to_string(ids.meta()));
        auto head_dim = config.dim / config.heads;
        auto table = cache ? rope_at(cache.positions, head_dim, config.rope_base)
                           : rope_table(ids.size(1), head_dim, config.rope_base);
        return norm(blocks.each(tokens(ids), [&](LlamaBlock const& block, Tensor const& x, std::size_t i) {
            return block(x, table, cache.layer(i));
        }));
    }

    using fields = Fields<&Llama::tokens, &Llama::blocks, &Llama::norm, &Llama::head>;
};

}  // namespace plait::models
