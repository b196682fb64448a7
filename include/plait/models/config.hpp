#pragma once

#include "plait/core/check.hpp"

#include <cstdint>

namespace plait::models {

/// The sizes of a decoder-only transformer. Zeros take the family's default.
struct Config {
    std::int64_t dim = 384, layers = 6, heads = 6;
    std::int64_t kv_heads = 0;  // as many as heads
    std::int64_t hidden = 0;    // gpt2: 4 dim; llama: 8/3 dim, rounded up to a multiple of 64
    std::int64_t vocab = 256;
    std::int64_t padded_vocab = 0;  // rows of embedding and head, so that a mesh can divide them; 0: vocab
    std::int64_t seq = 1024;        // longest sequence: rows of gpt2's position table
    bool tied = true;               // the output projection is the token embedding
    double dropout = 0;
    double rope_base = 10000;
    double norm_eps = 1e-5;
    std::int64_t loss_chunk = 1024;  // tokens whose logits are in memory at once; 0 keeps all

    std::int64_t kv() const { return kv_heads ? kv_heads : heads; }
    std::int64_t vocab_rows() const { return padded_vocab > vocab ? padded_vocab : vocab; }
};

}  // namespace plait::models
