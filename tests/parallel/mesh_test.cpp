#include "plait/parallel/mesh.hpp"
#include "catch.hpp"
#include "plait/comm/threads.hpp"
#include "plait/parallel/layout.hpp"

using namespace plait;

TEST_CASE("a mesh lays ranks along its axes, the last one fastest") {
    MeshSizes sizes{{"tensor", 2}, {"data", 3}};
    for (int r = 0; r < 6; ++r) {
        Mesh m(sizes, r);
        CHECK((m.rank() == r && m.place() == r));
        CHECK(m.ranks() == 6);
        CHECK(m.axis("data").coordinate == r / 2);
        CHECK(m.axis("tensor").coordinate == r % 2);
        CHECK(m.axis("replica").size == 1);
        CHECK(m.along("data") == nullptr);
        CHECK(m.along("replica")->size() == 1);
        auto [first, last] = m.samples(12);
        CHECK(first == 4 * (r / 2));
        CHECK(last == first + 4);
    }
    CHECK(Mesh(sizes, 0).text() == "replica=1, data=3, pipeline=1, tensor=2");
    CHECK(Mesh().ranks() == 1);
}

TEST_CASE("every axis of a world has a communicator of its own") {
    std::vector<int> sums(8), replica_sums(8);
    run_ranks(8, [&](Communicator& world) {
        Mesh m(world, {{"replica", 2}, {"data", 2}, {"tensor", 2}});
        auto r = static_cast<std::size_t>(world.rank());
        auto sum = [&](std::string_view axis) {
            std::int32_t x = 1 << world.rank();
            m.along(axis)->all_reduce(std::span(&x, 1), Combine::sum).wait();
            return x;
        };
        sums[r] = sum("data"), replica_sums[r] = sum("replica");
        std::int64_t bytes = 0;
        for (auto const& [axis, row] : m.traffic()) bytes += (axis == "tensor" ? 100 : 1) * row.bytes;
        check(bytes == 8, "{} bytes", bytes);
        m.reset_traffic();
        check(m.traffic().empty(), "counts are reset");
    });
    for (int r = 0; r < 8; ++r) {
        CHECK(sums[static_cast<std::size_t>(r)] == (1 << r) + (1 << (r ^ 2)));
        CHECK(replica_sums[static_cast<std::size_t>(r)] == (1 << r) + (1 << (r ^ 4)));
    }
}

TEST_CASE("an order puts other ranks of the world at the places of a mesh") {
    MeshSizes const sizes{{"data", 3}, {"tensor", 2}};
    std::vector<int> const order{4, 1, 5, 0, 2, 3};
    for (int place = 0; place < 6; ++place) {
        Mesh const m(sizes, order[static_cast<std::size_t>(place)], order);
        CHECK(m.place() == place);
        CHECK(m.rank() == order[static_cast<std::size_t>(place)]);
        CHECK(m.axis("data").coordinate == place / 2);
        CHECK(m.seen_by(5).place() == 2);
        CHECK(m.seen_by(5).rank() == 5);
    }
    CHECK_THROWS_WITH(Mesh(sizes, 0, {0, 1, 2, 3, 4, 4}), ContainsSubstring("place 5 has rank 4"));
    CHECK_THROWS_WITH(Mesh(sizes, 0, {0, 1, 2, 3, 4, 6}), ContainsSubstring("no permutation"));
    CHECK_THROWS_WITH(Mesh(sizes, 7, order), ContainsSubstring("rank 7 is not in an order of 6"));

    std::vector<int> tensor(6), data(6), coordinates(6);
    run_ranks(6, [&](Communicator& world) {
        Mesh const m(world, sizes, order);
        auto const r = static_cast<std::size_t>(world.rank());
        auto sum = [&](std::string_view axis) {
            std::int32_t x = 1 << world.rank();
            m.along(axis)->all_reduce(std::span(&x, 1), Combine::sum).wait();
            check(m.along(axis)->rank() == m.axis(axis).coordinate, "a rank of an axis is its coordinate");
            return x;
        };
        tensor[r] = sum("tensor"), data[r] = sum("data"), coordinates[r] = m.place();
    });
    for (int place = 0; place < 6; ++place) {
        auto at = [&](int p) { return static_cast<std::size_t>(order[static_cast<std::size_t>(p)]); };
        CHECK(coordinates[at(place)] == place);
        CHECK(tensor[at(place)] == (1 << at(place)) + (1 << at(place ^ 1)));
        CHECK(data[at(place)] == (1 << at(place % 2)) + (1 << at(place % 2 + 2)) + (1 << at(place % 2 + 4)));
    }
    std::string error;
    run_ranks(2, [&](Communicator& world) {
        try {
            Mesh(world, {{"data", 2}}, {0});
        } catch (Error const& e) {
            if (world.rank() == 0) error = e.what();
        }
    });
    CHECK_THAT(error, ContainsSubstring("the order has 1 ranks, the mesh 2"));
}

TEST_CASE("a mesh is read from text") {
    CHECK(parse_mesh("data=2,tensor=4") == MeshSizes{{"data", 2}, {"tensor", 4}});
    CHECK(parse_mesh("").empty());
    CHECK_THROWS_WITH(parse_mesh("data"), ContainsSubstring("\"data\" is not an axis with its size"));
    CHECK_THROWS_WITH(parse_mesh("data=0"), ContainsSubstring("write it like data=2,tensor=2"));
    CHECK_THROWS_WITH(parse_mesh("data=2x"), ContainsSubstring("\"data=2x\" is not an axis"));
    CHECK_THROWS_WITH(parse_mesh("date=2"), ContainsSubstring("there is no axis date: use replica, data"));
    CHECK_THROWS_WITH(parse_mesh("data=2,data=2"), ContainsSubstring("the axis data stands there twice"));
    CHECK_THROWS_AS(parse_mesh("data=-1"), UsageError);
}

TEST_CASE("a mesh that does not fit says so") {
    CHECK_THROWS_WITH(Mesh({{"time", 2}}, 0), ContainsSubstring("there is no axis time"));
    CHECK_THROWS_WITH(Mesh({{"data", 0}}, 0), ContainsSubstring("data has size 0: use 1 or more"));
    CHECK_THROWS_WITH(run_ranks(2,
                                [](Communicator& c) {
                                    Mesh(c, {{"data", 4}});
                                }),
                      ContainsSubstring("data=4") && ContainsSubstring("has 4 ranks, but the world has 2"));
    CHECK_THROWS_WITH(Mesh({{"data", 4}}, 0).samples(6),
                      ContainsSubstring("replica x data = 4 does not divide the batch of 6"));
    CHECK_THROWS_WITH(Mesh().axis("z"), ContainsSubstring("there is no axis z"));
}

TEST_CASE("axes on one dim nest: tensor, replica, data, outermost first") {
    Layout layout(4);
    for (std::string_view axis : {"replica", "data", "tensor"}) {
        Mesh m;
        layout[static_cast<std::size_t>(&m.axis(axis) - m.axes().data())] = AxisLayout::shard(0);
    }
    std::vector<bool> seen(24, false);
    for (int r = 0; r < 8; ++r) {
        Mesh m({{"replica", 2}, {"data", 2}, {"tensor", 2}}, r);
        auto [shape, place] = block_of({24, 5}, layout, m);
        CHECK(shape == Shape{3, 5});
        CHECK(place.logical == Shape{24, 5});
        CHECK(place.origin[0] == 12 * m.axis("tensor").coordinate + 6 * m.axis("replica").coordinate +
                                     3 * m.axis("data").coordinate);
        for (int i = 0; i < 3; ++i) seen[static_cast<std::size_t>(place.origin[0] + i)] = true;
    }
    CHECK(std::count(seen.begin(), seen.end(), true) == 24);
    CHECK(to_string(layout, Mesh()) == "replica shard(0), data shard(0), tensor shard(0)");
    CHECK(to_string(Layout(4), Mesh()) == "replicate");
}
