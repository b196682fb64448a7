#pragma once

#include "plait/core/check.hpp"
#include "plait/data/entropy.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace plait {

PLAIT_INLINE double conditional_entropy(std::span<std::uint8_t const> bytes, int order) {
    check<UsageError>(order >= 1 && order <= 3, "the entropy of order {} is not counted: use 1, 2 or 3",
                      order);
    auto const length = static_cast<std::size_t>(order);
    if (bytes.size() < length) return 0;
    // Sorted, equal ones are neighbours, and so are those of one context; a table of all would outweigh a
    // small text.
    std::uint32_t const mask = (1u << (8 * order)) - 1;
    std::vector<std::uint32_t> grams;
    grams.reserve(bytes.size());
    std::uint32_t gram = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        gram = (gram << 8 | bytes[i]) & mask;
        if (i + 1 >= length) grams.push_back(gram);
    }
    std::sort(grams.begin(), grams.end());
    // -sum p(c,x) log2 p(x|c); log2(n/m) is taken of the whole counts, so certain bytes cost exactly nothing.
    double bits = 0;
    auto const end = grams.end();
    for (auto context = grams.begin(); context != end;) {
        auto next = std::find_if(context, end, [&](auto g) { return g >> 8 != *context >> 8; });
        auto const all = static_cast<double>(next - context);
        for (auto same = context; same != next;) {
            auto after = std::find_if(same, next, [&](auto g) { return g != *same; });
            auto const count = static_cast<double>(after - same);
            bits -= count * std::log2(count / all);
            same = after;
        }
        context = next;
    }
    return bits / static_cast<double>(bytes.size() - length + 1);
}

}  // namespace plait
