#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tests {

/// One choice for each column of a table.
using Choices = std::vector<int>;

/// All rows of a table whose columns have this many choices, but those that `has` refuses.
template <class Has>
std::vector<Choices> all_choices(Choices const& sizes, Has const& has) {
    std::vector<Choices> rows;
    Choices row(sizes.size(), 0);
    auto fill = [&](auto const& self, std::size_t column) -> void {
        if (column == row.size()) {
            if (has(std::as_const(row))) rows.push_back(row);
            return;
        }
        for (row[column] = 0; row[column] < sizes[column]; ++row[column]) self(self, column + 1);
    };
    fill(fill, 0);
    return rows;
}
inline std::vector<Choices> all_choices(Choices const& sizes) {
    return all_choices(sizes, [](Choices const&) { return true; });
}

/// Rows among `rows` in which any two columns take every pair of choices that some row has: faults that two
/// choices together bring out are met by one of few runs. Greedy, in a fixed order.
inline std::vector<Choices> pairwise(std::vector<Choices> const& rows) {
    if (rows.empty()) return {};
    std::size_t columns = rows[0].size(), most = 1;
    for (auto const& r : rows)
        for (int c : r) most = std::max(most, static_cast<std::size_t>(c) + 1);
    auto pair = [&](Choices const& r, std::size_t a, std::size_t b) {
        return ((a * columns + b) * most + static_cast<std::size_t>(r[a])) * most +
               static_cast<std::size_t>(r[b]);
    };
    auto each_pair = [&](Choices const& r, auto const& f) {
        for (std::size_t a = 0; a < columns; ++a)
            for (std::size_t b = a + 1; b < columns; ++b) f(pair(r, a, b));
    };
    std::vector<bool> open(columns * columns * most * most, false);
    for (auto const& r : rows) each_pair(r, [&](std::size_t p) { open[p] = true; });
    std::vector<Choices> chosen;
    while (true) {
        std::size_t best = 0;
        int gain = 0;
        for (std::size_t i = 0; i < rows.size(); ++i) {
            int n = 0;
            each_pair(rows[i], [&](std::size_t p) { n += open[p]; });
            if (n > gain) gain = n, best = i;
        }
        if (!gain) return chosen;
        each_pair(rows[best], [&](std::size_t p) { open[p] = false; });
        chosen.push_back(rows[best]);
    }
}

}  // namespace tests
