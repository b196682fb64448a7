#pragma once

#include "plait/core/check.hpp"
#include "plait/parallel/islands.hpp"
#include "plait/parallel/mesh-inl.hpp"

#include <algorithm>
#include <numeric>

namespace plait {
namespace detail {

/// The ranks on each island, in their order; islands in the order of their lowest rank.
inline std::vector<std::vector<int>> ranks_of_islands(std::vector<int> const& islands) {
    std::map<int, std::size_t> known;
    std::vector<std::vector<int>> ranks;
    for (int r = 0; r < static_cast<int>(islands.size()); ++r) {
        auto const [it, fresh] = known.try_emplace(islands[static_cast<std::size_t>(r)], ranks.size());
        if (fresh) ranks.emplace_back();
        ranks[it->second].push_back(r);
    }
    return ranks;
}

/// Sizes of all axes, outermost first.
inline std::vector<int> axis_sizes(MeshSizes const& sizes) {
    std::vector<int> all;
    for (auto const& a : laid_axes(sizes, 0)) all.push_back(a.size);
    return all;
}

}  // namespace detail

PLAIT_INLINE std::vector<int> place_ranks(MeshSizes const& sizes, std::vector<int> const& islands) {
    // Blocks of neighbours, from one rank to the whole mesh; each size divides the next.
    std::vector<int> blocks{1};
    auto const axes = detail::axis_sizes(sizes);
    for (auto a = axes.rbegin(); a != axes.rend(); ++a) blocks.push_back(blocks.back() * *a);
    check<UsageError>(blocks.back() == std::ssize(islands),
                      "mesh: it has {} ranks, but the world has {}: make them equal", blocks.back(),
                      islands.size());
    // Large blocks first, so that smaller ones begin where blocks of their size do.
    auto left = detail::ranks_of_islands(islands);
    std::vector<int> order;
    for (auto size = blocks.rbegin(); size != blocks.rend(); ++size)
        for (auto& ranks : left) {
            auto const whole = std::ssize(ranks) / *size * *size;
            order.insert(order.end(), ranks.begin(), ranks.begin() + whole);
            ranks.erase(ranks.begin(), ranks.begin() + whole);
        }
    return order;
}

PLAIT_INLINE std::vector<AxisPlace> axis_places(MeshSizes const& sizes, std::vector<int> const& islands,
                                                std::vector<int> const& order) {
    auto const axes = detail::axis_sizes(sizes);
    std::vector<AxisPlace> places;
    int inner = 1;
    for (std::size_t i = axes.size(); i-- > 0;) {
        AxisPlace one{std::string(mesh_axes[i]), axes[i], false};
        auto island = [&](int place) {
            return islands.at(static_cast<std::size_t>(order.at(static_cast<std::size_t>(place))));
        };
        for (int place = 0; place < static_cast<int>(order.size()); ++place)
            one.crosses |= place / inner % axes[i] > 0 && island(place) != island(place - inner);
        inner *= axes[i];
        if (one.size > 1) places.insert(places.begin(), std::move(one));
    }
    return places;
}

PLAIT_INLINE std::vector<int> island_sizes(std::vector<int> const& islands) {
    std::vector<int> sizes;
    for (auto const& ranks : detail::ranks_of_islands(islands))
        sizes.push_back(static_cast<int>(ranks.size()));
    return sizes;
}

PLAIT_INLINE int largest_inside(int size, std::vector<int> const& island_sizes) {
    int common = 0;
    for (int n : island_sizes) common = std::gcd(common, n);
    while (common % size != 0) --size;
    return size;
}

}  // namespace plait
