#pragma once

#include "plait/core/check.hpp"
#include "plait/data/entropy.hpp"

#include <cmath>
#include <cstddef>
#include <vector>

namespace plait {

PLAIT_INLINE double conditional_entropy(std::span<std::uint8_t const> bytes, int order) {
    check<UsageError>(order >= 1 && order <= 3, "the entropy of order {} is not counted: use 1, 2 or 3",
                      order);
    auto const length = static_cast<std::size_t>(order);
    if (bytes.size() < length) return 0;
    std::size_t const grams = std::size_t{1} << (8 * order);
    std::vector<std::uint32_t> count(grams), context(grams / 256);
    std::size_t gram = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        gram = (gram << 8 | bytes[i]) % grams;
        if (i + 1 >= length) ++count[gram], ++context[gram / 256];
    }
    // -sum p(c,x) log2 p(x|c); log2(n/m) is taken of the whole counts, so certain bytes cost exactly nothing.
    double bits = 0;
    for (std::size_t g = 0; g < grams; ++g)
        if (count[g]) bits -= count[g] * std::log2(static_cast<double>(count[g]) / context[g / 256]);
    return bits / static_cast<double>(bytes.size() - length + 1);
}

}  // namespace plait
