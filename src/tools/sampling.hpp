#pragma once

#include <cstdint>
#include <span>

namespace plait::tools {

/// How the next token is drawn.
struct Sampling {
    double temperature = 0.8;  // 0: always the likeliest
    std::int64_t top_k = 0;    // only the k likeliest; 0: all
    double top_p = 1;          // only the likeliest that together hold this share
};

/// A token drawn from softmax(logits / temperature) by `uniform` in [0, 1): first cut to the `top_k`
/// likeliest, then to the fewest of those that hold `top_p` of what is left (Holtzman et al., "The curious
/// case of neural text degeneration", 2020). Equal logits rank by their number. Throws Error where a logit is
/// not finite.
std::int32_t sample(std::span<float const> logits, Sampling const& how, double uniform);

/// In [0, 1), 53 bits: token `position` of sequence `sequence`. Neither batch nor order changes it.
double uniform_of(std::uint64_t seed, std::uint64_t sequence, std::uint64_t position);

}  // namespace plait::tools
