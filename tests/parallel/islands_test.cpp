#include "plait/parallel/islands.hpp"
#include "catch.hpp"

#include <algorithm>
#include <numeric>

using namespace plait;

namespace {

/// Islands of these sizes, filled in the order of ranks.
std::vector<int> filled(std::vector<int> const& sizes) {
    std::vector<int> islands;
    for (std::size_t i = 0; i < sizes.size(); ++i)
        islands.insert(islands.end(), static_cast<std::size_t>(sizes[i]), static_cast<int>(i));
    return islands;
}

/// "tensor in, data out"
std::string lie(MeshSizes const& sizes, std::vector<int> const& islands, std::vector<int> const& order) {
    std::string text;
    for (auto const& a : axis_places(sizes, islands, order))
        text += (text.empty() ? "" : ", ") + a.name + (a.crosses ? " out" : " in");
    return text;
}
std::string lie(MeshSizes const& sizes, std::vector<int> const& islands) {
    return lie(sizes, islands, place_ranks(sizes, islands));
}

using Order = std::vector<int>;

}  // namespace

TEST_CASE("islands that are filled in order leave ranks where they are") {
    Order identity(8);
    std::iota(identity.begin(), identity.end(), 0);
    for (auto const& islands :
         {filled({8}), filled({4, 4}), filled({2, 2, 2, 2}), filled({1, 1, 1, 1, 1, 1, 1, 1})})
        CHECK(place_ranks({{"data", 4}, {"tensor", 2}}, islands) == identity);
    CHECK(place_ranks({}, {7}) == Order{0});
}

TEST_CASE("ranks that a launcher dealt out to islands in turn are brought together") {
    Order const islands{0, 1, 0, 1, 0, 1, 0, 1};
    MeshSizes const sizes{{"data", 2}, {"tensor", 4}};
    CHECK(place_ranks(sizes, islands) == Order{0, 2, 4, 6, 1, 3, 5, 7});
    CHECK(lie(sizes, islands) == "data out, tensor in");
    Order identity(8);
    std::iota(identity.begin(), identity.end(), 0);
    CHECK(lie(sizes, islands, identity) == "data in, tensor out");
}

TEST_CASE("inner axes lie within islands, as far out as they reach") {
    MeshSizes const sizes{{"replica", 2}, {"data", 2}, {"pipeline", 2}, {"tensor", 2}};
    CHECK(lie(sizes, filled({16})) == "replica in, data in, pipeline in, tensor in");
    CHECK(lie(sizes, filled({8, 8})) == "replica out, data in, pipeline in, tensor in");
    CHECK(lie(sizes, filled({4, 4, 4, 4})) == "replica out, data out, pipeline in, tensor in");
    CHECK(lie(sizes, filled(Order(8, 2))) == "replica out, data out, pipeline out, tensor in");
    CHECK(lie(sizes, filled(Order(16, 1))) == "replica out, data out, pipeline out, tensor out");
}

TEST_CASE("islands of several sizes hold whole blocks first, and what is left shares") {
    // Rank 0 stands beside rank 3 as both are left over.
    CHECK(place_ranks({{"data", 2}, {"tensor", 2}}, filled({1, 3})) == Order{1, 2, 0, 3});
    CHECK(place_ranks({{"data", 2}, {"tensor", 4}}, filled({3, 5})) == Order{3, 4, 5, 6, 0, 1, 2, 7});
    // Pairs first begin where a block of four does, so the second four is the first island's.
    MeshSizes const sizes{{"data", 3}, {"pipeline", 2}, {"tensor", 2}};
    auto const islands = filled({6, 6});
    CHECK(place_ranks(sizes, islands) == Order{0, 1, 2, 3, 6, 7, 8, 9, 4, 5, 10, 11});
    CHECK(lie(sizes, islands) == "data out, pipeline out, tensor in");
}

TEST_CASE("every order is a permutation, and tensor crosses where its size does not divide an island") {
    int crossed = 0;
    for (auto const& on : std::vector<Order>{{12}, {6, 6}, {4, 8}, {3, 4, 5}, {1, 11}, {2, 2, 2, 6}, {5, 7}})
        for (int tensor : {1, 2, 3, 4, 6, 12}) {
            MeshSizes const sizes{{"data", 12 / tensor}, {"tensor", tensor}};
            auto const islands = filled(on);
            auto order = place_ranks(sizes, islands);
            bool const divides = std::all_of(on.begin(), on.end(), [&](int n) { return n % tensor == 0; });
            auto const text = lie(sizes, islands, order);
            CHECK((text.find("tensor out") != text.npos) == !divides);
            CHECK((largest_inside(tensor, island_sizes(islands)) == tensor) == divides);
            crossed += !divides;
            std::sort(order.begin(), order.end());
            for (int r = 0; r < 12; ++r) CHECK(order[static_cast<std::size_t>(r)] == r);
        }
    CHECK(crossed > 10);
    CHECK(largest_inside(4, {6, 12}) == 3);
    CHECK(largest_inside(4, {3, 5}) == 1);
    CHECK(island_sizes({5, 9, 5, 5}) == Order{3, 1});
    CHECK_THROWS_WITH(place_ranks({{"data", 2}}, {0, 0, 0}), ContainsSubstring("the world has 3"));
}
