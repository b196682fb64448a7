#include "sampling.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "plait/core/check.hpp"
#include "plait/core/random.hpp"

namespace plait::tools {

std::int32_t sample(std::span<float const> logits, Sampling const& how, double uniform) {
    check(!logits.empty(), "there are no logits to draw a token from");
    for (float x : logits) check(std::isfinite(x), "the model gives logits that are not finite");
    auto const likeliest = std::max_element(logits.begin(), logits.end()) - logits.begin();
    if (how.temperature == 0 || how.top_k == 1) return static_cast<std::int32_t>(likeliest);

    struct Candidate {
        double weight;  // of the likeliest: 1
        std::int32_t token;
        bool operator<(Candidate const& o) const {
            return weight != o.weight ? weight > o.weight : token < o.token;
        }
    };
    std::vector<Candidate> all(logits.size());
    double const most = logits[static_cast<std::size_t>(likeliest)];
    for (std::size_t i = 0; i < logits.size(); ++i)
        all[i] = {std::exp((logits[i] - most) / how.temperature), static_cast<std::int32_t>(i)};
    auto total = [&] {
        double sum = 0;
        for (auto const& c : all) sum += c.weight;
        return sum;
    };
    if (how.top_k > 0 && how.top_k < std::ssize(all)) {
        std::nth_element(all.begin(), all.begin() + how.top_k - 1, all.end());
        all.resize(static_cast<std::size_t>(how.top_k));
    }
    if (how.top_p < 1) {
        double const sum = total();
        // Tokens this light hold less than 1 - top_p together, so they need no sorting.
        double const light = (1 - how.top_p) * sum / static_cast<double>(all.size());
        std::erase_if(all, [&](auto const& c) { return c.weight < light; });
        std::sort(all.begin(), all.end());
        double held = 0;
        std::size_t count = 0;
        while (count < all.size() && (count == 0 || held < how.top_p * sum)) held += all[count++].weight;
        all.resize(count);
    }
    double left = uniform * total();
    for (auto const& c : all)
        if ((left -= c.weight) < 0) return c.token;
    return static_cast<std::int32_t>(likeliest);  // rounding has left a rest
}

double uniform_of(std::uint64_t seed, std::uint64_t sequence, std::uint64_t position) {
    auto w = Random{seed, hash_name("generate") ^ mix(sequence), 0}.words(position);
    return static_cast<double>((std::uint64_t{w[0]} << 32 | w[1]) >> 11) * 0x1p-53;
}

}  // namespace plait::tools
