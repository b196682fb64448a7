#include "plait/parallel/schedule_check.hpp"
#include "schedules.hpp"

using namespace plait;

namespace {

std::string fault(Schedule const& s, Costs const& costs = {}, std::vector<std::int64_t> const& limits = {}) {
    return message_of<UsageError>([&] { check_schedule(s, costs, limits); });
}

/// Where a piece stands in its rank's row.
std::size_t place_of(Schedule const& s, Slot const& slot) {
    auto const& row =
        s.slots[static_cast<std::size_t>(s.rank_of_stage[static_cast<std::size_t>(slot.stage)])];
    return static_cast<std::size_t>(std::find(row.begin(), row.end(), slot) - row.begin());
}

}  // namespace

TEST_CASE("every schedule ends at any costs, each piece as early as can be") {
    std::uint64_t site = 0;
    for_each_schedule(8, 16, [&](ScheduleRow const& row, int p, int v, int m) {
        auto const s = make_schedule(std::string(row.name), p, v, m);
        CAPTURE(row.name, p, v, m);
        auto const costs = random_costs(s, {3, ++site, 0});
        auto const t = check_schedule(s, costs);
        for (std::size_t r = 0; r < s.slots.size(); ++r) {
            REQUIRE(t.busy[r] + t.bubble[r] == Approx(t.makespan));
            REQUIRE((t.inner_bubble[r] > -1e-9 && t.inner_bubble[r] <= t.bubble[r] + 1e-9));
        }
        // The longest paths of large tables take their time.
        if (s.stages * m <= 48) REQUIRE(timeline_fault(s, costs, t) == "");
    });
}

TEST_CASE("any order that works is taken, and what it needs is counted") {
    for (std::uint64_t site = 0; site < 400; ++site) {
        auto const s = random_schedule({5, site, 0});
        auto const costs = random_costs(s, {6, site, 0});
        CAPTURE(site, schedule_csv(s));
        auto const t = check_schedule(s, costs);
        REQUIRE(timeline_fault(s, costs, t) == "");
        // Bytes as a sum over what is alive after each slot, from the definition.
        for (std::size_t r = 0; r < s.slots.size(); ++r) {
            std::int64_t most = 0, copies_most = 0;
            for (std::size_t i = 0; i < s.slots[r].size(); ++i) {
                std::int64_t bytes = 0, copies = 0;
                for (std::size_t j = 0; j <= i; ++j) {
                    auto const& x = s.slots[r][j];
                    auto const k = static_cast<std::size_t>(x.stage);
                    auto done = [&](Work work) { return place_of(s, {work, x.stage, x.micro}) <= i; };
                    if (x.work == Work::F && !done(Work::B)) bytes += costs.stash_bytes[k];
                    if (x.work == Work::B && !done(Work::W)) bytes += costs.held_bytes[k];
                    if (x.work == Work::F && !done(Work::W)) ++copies;
                }
                most = std::max(most, bytes), copies_most = std::max(copies_most, copies);
            }
            REQUIRE(t.rank_bytes[r] == most);
            REQUIRE(t.rank_copies[r] == copies_most);
        }
    }
}

TEST_CASE("control: without an edge the law of timelines finds another time") {
    for (auto name : {"1f1b", "zb-h1", "zb-v"}) {
        auto const s = make_schedule(name, 4, 1, 6);
        auto const costs = random_costs(s, {11, 0, 0});
        auto const t = check_schedule(s, costs);
        REQUIRE(timeline_fault(s, costs, t) == "");
        int down = 0, up = 0;
        for (auto const& e : edges_of(s)) {
            if (e.from.stage == e.to.stage) continue;
            bool const seen = timeline_fault(s, costs, t, e) != "";
            (e.from.stage < e.to.stage ? down : up) += seen;
        }
        // Some pieces come too late to wait for anything; most do wait.
        CAPTURE(name);
        CHECK(down >= 3);
        CHECK(up >= 3);
    }
    // And so it is with a time of its own.
    auto const s = make_schedule("1f1b", 3, 1, 4);
    auto const costs = even_costs(s, 1, 1, 1);
    auto t = check_schedule(s, costs);
    t.pieces[1][2].start -= 0.5;
    CHECK(timeline_fault(s, costs, t) != "");
}

TEST_CASE("a swapped pair of slots is caught") {
    auto const s = make_schedule("1f1b", 3, 1, 4);
    auto const costs = random_costs(s, {13, 0, 0});
    int deadlocks = 0, others = 0;
    for (std::size_t r = 0; r < s.slots.size(); ++r)
        for (std::size_t i = 0; i + 1 < s.slots[r].size(); ++i) {
            auto swapped = s;
            auto &a = swapped.slots[r][i], &b = swapped.slots[r][i + 1];
            std::swap(a, b);
            bool const tied = a.stage == b.stage && a.micro == b.micro;
            auto const text = fault(swapped, costs);
            CAPTURE(r, i, text);
            if (tied) REQUIRE(contains(text, "a deadlock"));
            if (!text.empty()) {
                ++deadlocks;
                continue;
            }
            REQUIRE(timeline_fault(s, costs, check_schedule(swapped, costs)) != "");
            ++others;
        }
    CHECK(deadlocks >= 12);
    CHECK(others > 0);

    auto stuck = make_schedule("1f1b", 2, 1, 3);
    std::swap(stuck.slots[1][0], stuck.slots[1][3]);  // 1F1 1B0 1W0 1F0 ...
    CHECK(fault(stuck) ==
          "schedule 1f1b: a deadlock: rank 0, slot 2 (0B0) waits for 1W0 in slot 2 of rank 1; rank 1, slot 1 "
          "(1B0) waits for 1F0 in its own slot 3: put each piece behind what it waits for");
}

TEST_CASE("a deadlock of many ranks names the first") {
    auto s = make_schedule("gpipe", 12, 1, 2);
    std::swap(s.slots[11][0], s.slots[11][2]);
    auto const text = fault(s);
    CHECK_THAT(text, ContainsSubstring("rank 7, slot 2"));
    CHECK_THAT(text, ContainsSubstring("; and 4 more: put"));
}

TEST_CASE("a piece that is forgotten, repeated or elsewhere is named") {
    auto const good = make_schedule("1f1b", 2, 1, 3);
    auto s = good;
    s.slots[1].erase(s.slots[1].begin() + 4);
    CHECK(fault(s) == "schedule 1f1b: rank 1 forgets 1B1 in its slots 0 to 7: add it");
    s = good;
    s.slots[0].push_back({Work::F, 0, 1});
    CHECK(fault(s) == "schedule 1f1b: rank 0, slot 9: 0F1 is done in slot 1 already: take one out");
    s = good;
    s.slots[0][3] = {Work::B, 0, 0};  // for 0W0
    CHECK(fault(s) == "schedule 1f1b: rank 0, slot 3: 0B0 is done in slot 2 already: take one out");
    s = good;
    s.slots[0].push_back({Work::F, 1, 1});
    CHECK(fault(s) == "schedule 1f1b: rank 0, slot 9: 1F1 belongs to rank 1, where its stage is: move it");
    s = good;
    s.slots[0][1].micro = 3;
    CHECK(fault(s) == "schedule 1f1b: rank 0, slot 1: 0F3 is of no micro-batch: they run from 0 to 2");
    s = good;
    s.slots[1][2].stage = 2;
    CHECK(fault(s) == "schedule 1f1b: rank 1, slot 2: 2W0 is of no stage: they run from 0 to 1");
    s = good;
    s.slots[1].clear();
    CHECK_THAT(fault(s), ContainsSubstring("rank 1 forgets 1F0"));
    s = good;
    s.rank_of_stage = {0, 0};
    CHECK_THAT(fault(s), ContainsSubstring("rank 1 has no stage: use fewer ranks"));
    s.rank_of_stage = {0};
    CHECK_THAT(fault(s), ContainsSubstring("2 ranks with 2 rows, 2 stages with 1 places"));
    s.rank_of_stage = {0, 7};
    CHECK_THAT(fault(s), ContainsSubstring("rank 1 has no stage"));
    CHECK_THAT(fault({}), ContainsSubstring("1 ranks with 0 rows"));
    // Every piece, one at a time.
    for (std::size_t r = 0; r < 2; ++r)
        for (std::size_t i = 0; i < good.slots[r].size(); ++i) {
            s = good;
            auto const piece = to_string(s.slots[r][i]);
            s.slots[r].erase(s.slots[r].begin() + static_cast<std::ptrdiff_t>(i));
            CHECK_THAT(fault(s), ContainsSubstring(fmt::format("rank {} forgets {} ", r, piece)));
        }
}

TEST_CASE("memory over the limit names rank and slot") {
    auto const s = make_schedule("1f1b", 3, 1, 4);
    auto costs = even_costs(s, 1, 1, 1);
    costs.stash_bytes = {100, 200, 300}, costs.held_bytes = {10, 20, 30};
    CHECK(check_schedule(s, costs).rank_bytes == std::vector<std::int64_t>{300, 400, 300});
    CHECK(fault(s, costs, {300, 400, 300}).empty());
    CHECK(fault(s, costs, {300, 399, 300}) ==
          "schedule 1f1b: rank 1, slot 1 (1F1) takes what waits for backward to 400 bytes, over the limit of "
          "399: "
          "do backward pieces earlier, or use smaller micro-batches");
    CHECK_THAT(fault(s, costs, {300, 400}), ContainsSubstring("limits of memory for 2 ranks, but it has 3"));
    // What is held may be the larger part.
    costs.held_bytes = {110, 20, 30};
    CHECK(check_schedule(s, costs).rank_bytes[0] == 310);
}

TEST_CASE("costs that cannot be are refused") {
    auto const s = make_schedule("1f1b", 3, 1, 4);
    auto with = [&](auto const& change) {
        Costs costs;
        change(costs);
        return fault(s, costs);
    };
    CHECK(with([](Costs& c) {
              c.forward_seconds = {1, 2};
          }) == "schedule 1f1b: seconds of F for 2 stages, but it has 3: give one of each");
    CHECK_THAT(with([](Costs& c) { c.input_seconds = {1, -1, 1}; }), ContainsSubstring("seconds of B of -1"));
    CHECK_THAT(with([](Costs& c) {
                   c.weight_seconds = {1, NAN, 1};
               }),
               ContainsSubstring("seconds of W of nan"));
    CHECK_THAT(with([](Costs& c) {
                   c.stash_bytes = {-1, 1, 1};
               }),
               ContainsSubstring("bytes of a stash of -1"));
    CHECK_THAT(with([](Costs& c) { c.edge_seconds = INFINITY; }),
               ContainsSubstring("an edge of inf seconds"));
    // No time at all is a time.
    CHECK(check_schedule(s, even_costs(s, 0, 0, 0)).makespan == 0);
    CHECK(check_schedule(s, even_costs(s, 0, 0, 0)).bubble_fraction == 0);
}

TEST_CASE("edges between ranks take their time, and those inside one none") {
    auto const s = make_schedule("zb-v", 2, 2, 1);
    auto costs = even_costs(s, 1, 1, 1);
    auto const t = check_schedule(s, costs);
    costs.edge_seconds = 10;
    // 0 to 1, and 2 to 3, forwards and backwards; 1 and 2 lie on one rank.
    CHECK(check_schedule(s, costs).makespan == t.makespan + 40);
    CHECK(t.makespan == 10);
}

TEST_CASE("a large schedule is checked quickly") {
    auto const s = make_schedule("interleaved", 64, 8, 256);
    auto const t = check_schedule(s);
    CHECK(t.makespan == 3 * (8 * 256 + 63));
}
