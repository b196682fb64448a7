#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plait {

/// Of `known`, the one that the fewest typing errors (insert, delete, replace, swap neighbours) turn `name`
/// into; "" of none.
inline std::string nearest_name(std::string_view name, std::vector<std::string> const& known) {
    auto distance = [&](std::string_view other) {
        std::vector<std::size_t> before, above(other.size() + 1), row(other.size() + 1);
        for (std::size_t j = 0; j <= other.size(); ++j) above[j] = j;
        for (std::size_t i = 1; i <= name.size(); ++i) {
            row[0] = i;
            for (std::size_t j = 1; j <= other.size(); ++j) {
                row[j] =
                    std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (name[i - 1] != other[j - 1])});
                if (i > 1 && j > 1 && name[i - 1] == other[j - 2] && name[i - 2] == other[j - 1])
                    row[j] = std::min(row[j], before[j - 2] + 1);
            }
            before = std::exchange(above, row);
        }
        return above[other.size()];
    };
    auto best = std::min_element(known.begin(), known.end(),
                                 [&](auto& a, auto& b) { return distance(a) < distance(b); });
    return best == known.end() ? "" : *best;
}

}  // namespace plait
