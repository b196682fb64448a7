#include "plait/parallel/schedule.hpp"
#include "plait/io/file.hpp"
#include "plait/parallel/schedule_live.hpp"
#include "schedules.hpp"

using namespace plait;

namespace {

/// What was published of a schedule, for p ranks, v stages on each and m micro-batches, and times f, b, w of
/// one stage.
struct Published {
    char const* name;
    bool (*holds)(int p, int m, double f, double b, double w);
    double (*bubble)(int p, double f, double b, double w);  // of a rank, in seconds
    int (*copies)(int p, int m, int v, int rank);           // at most alive on a rank
};
constexpr Published published[] = {
    {"gpipe", [](int, int, double, double, double) { return true; },
     [](int p, double f, double b, double w) { return (p - 1) * (f + b + w); },
     [](int, int m, int, int) { return m; }},
    {"1f1b", [](int, int, double, double, double) { return true; },
     [](int p, double f, double b, double w) { return (p - 1) * (f + b + w); },
     [](int p, int m, int, int rank) { return std::min(p - rank, m); }},
    // A stage's times are those of a rank's work over v, so this is (p - 1) / (v m) of the work.
    {"interleaved", [](int, int, double, double, double) { return true; },
     [](int p, double f, double b, double w) { return (p - 1) * (f + b + w); },
     [](int p, int m, int v, int rank) { return std::min(2 * (p - 1 - rank) + (v - 1) * p + 1, v * m); }},
    {"zb-h1", [](int p, int m, double f, double b, double w) { return m >= p && w <= f && w <= b; },
     [](int p, double f, double b, double w) { return (p - 1) * (f + b - w); },
     [](int p, int, int, int) { return p; }},
    {"zb-v", [](int p, int m, double f, double b, double w) { return m >= 2 * p - 1 && f == b && b == w; },
     [](int p, double f, double, double) { return (p - 1) * f; }, [](int p, int, int, int) { return 2 * p; }},
};

Published const& published_of(ScheduleRow const& row) {
    for (auto const& p : published)
        if (p.name == row.name) return p;
    FAIL("nothing stands here of " << row.name << ": add what was published");
    return published[0];
}

std::string fault(std::string const& name, int p, int v, int m) {
    return message_of<UsageError>([&] { make_schedule(name, p, v, m); });
}

}  // namespace

TEST_CASE("schedules have the bubbles and stashes that were published") {
    int count = 0;
    for_each_schedule(8, 16, [&](ScheduleRow const& row, int p, int v, int m) {
        auto const s = make_schedule(std::string(row.name), p, v, m);
        auto const& known = published_of(row);
        for (auto [f, b, w] : {std::tuple(1.0, 1.0, 1.0), {2, 3, 1}, {3, 2, 3}, {4, 4, 3}, {1, 2, 2}}) {
            auto const t = check_schedule(s, even_costs(s, f, b, w));
            auto const work = v * m * (f + b + w);
            CAPTURE(row.name, p, v, m, f, b, w, t.makespan);
            REQUIRE(t.makespan >= work);
            if (!known.holds(p, m, f, b, w)) continue;
            ++count;
            REQUIRE(t.makespan == work + known.bubble(p, f, b, w));
            REQUIRE(t.bubble_fraction == Approx(known.bubble(p, f, b, w) / work));
            for (int r = 0; r < p; ++r) {
                auto const k = static_cast<std::size_t>(r);
                REQUIRE(t.busy[k] == work);
                REQUIRE(t.bubble[k] == t.makespan - work);
                REQUIRE(t.rank_copies[k] == known.copies(p, m, v, r));
                // ZB-V waits nowhere between its first piece and its last.
                if (row.name == "zb-v") REQUIRE(t.inner_bubble[k] == 0);
            }
        }
    });
    CHECK(count > 2000);
}

TEST_CASE("with few micro-batches zero-bubble schedules stay within 1F1B and their memory") {
    for (int p = 1; p <= 8; ++p)
        for (int m = 1; m <= 16; ++m) {
            CAPTURE(p, m);
            auto const usual = check_schedule(make_schedule("1f1b", p, 1, m)).makespan;
            auto const h1 = check_schedule(make_schedule("zb-h1", p, 1, m));
            // Its stages are half as long.
            auto const v = check_schedule(make_schedule("zb-v", p, 2, m));
            CHECK(h1.makespan <= usual);
            CHECK(v.makespan <= 2 * usual);
            for (auto n : h1.rank_copies) CHECK(n <= std::min(p, m));
            for (auto n : v.rank_copies) CHECK(n <= std::min(2 * p, 2 * m));
        }
}

TEST_CASE("where 1F1B sends before its weight gradients, the bubble is without them") {
    for (int p : {2, 4, 7}) {
        auto s = make_schedule("1f1b", p, 1, 16);
        CHECK(s.whole_backward);
        s.whole_backward = false;
        CHECK(check_schedule(s, even_costs(s, 2, 3, 1)).makespan == 16 * 6 + (p - 1) * 5);
    }
}

TEST_CASE("stages lie where the schedule says") {
    CHECK(make_schedule("1f1b", 3, 1, 4).rank_of_stage == std::vector<int>{0, 1, 2});
    CHECK(make_schedule("interleaved", 2, 3, 4).rank_of_stage == std::vector<int>{0, 1, 0, 1, 0, 1});
    CHECK(make_schedule("zb-v", 3, 2, 4).rank_of_stage == std::vector<int>{0, 1, 2, 2, 1, 0});
    // 1 stands for the number that a schedule always has.
    CHECK(make_schedule("zb-v", 3, 1, 4) == make_schedule("zb-v", 3, 2, 4));
    CHECK(to_string(make_schedule("1f1b", 2, 1, 2).slots[1][1]) == "1B0");
}

TEST_CASE("every schedule works in the order of the micro-batches") {
    for_each_schedule(6, 12, [&](ScheduleRow const& row, int p, int v, int m) {
        auto const s = make_schedule(std::string(row.name), p, v, m);
        CAPTURE(row.name, p, v, m);
        REQUIRE_NOTHROW(check_micro_order(s));
    });
    auto s = make_schedule("zb-h1", 3, 1, 4);
    auto& last = s.slots[2];
    std::swap(last[last.size() - 1], last[last.size() - 2]);
    CHECK_NOTHROW(check_schedule(s));
    CHECK(message_of<UsageError>([&] { check_micro_order(s); }) ==
          "schedule zb-h1: rank 2, slot 10: 2W3 comes before 2W2: put the W of a stage in the order of the "
          "micro-batches");
}

TEST_CASE("copies of stashes are as many as are alive, and never shared") {
    using Copies = std::vector<std::vector<int>>;
    auto fault_of_copies = [](Schedule const& s, Copies const& copies, StashLife life,
                              std::vector<int> const& pools) -> std::string {
        std::map<std::pair<int, int>, Slot> owner;  // (pool, copy) to the piece that took it
        for (std::size_t r = 0; r < s.slots.size(); ++r)
            for (std::size_t i = 0; i < s.slots[r].size(); ++i) {
                auto const& x = s.slots[r][i];
                if (x.work < life.from || x.work > life.to) {
                    if (copies[r][i] != -1) return to_string(x) + " has a copy";
                    continue;
                }
                if (copies[r][i] < 0) return to_string(x) + " has no copy";
                auto const key = std::pair(pools[static_cast<std::size_t>(x.stage)], copies[r][i]);
                Slot const first{life.from, x.stage, x.micro};
                if (x.work == life.from && !owner.emplace(key, x).second)
                    return to_string(x) + " takes another's";
                if (!owner.contains(key) || !(owner[key] == first)) return to_string(x) + " reads another's";
                if (x.work == life.to) owner.erase(key);
            }
        return owner.empty() ? "" : "a copy is kept";
    };
    for_each_schedule(5, 9, [&](ScheduleRow const& row, int p, int v, int m) {
        auto const s = make_schedule(std::string(row.name), p, v, m);
        std::vector<int> own;
        for (int stage = 0; stage < s.stages; ++stage) own.push_back(stage);
        CAPTURE(row.name, p, v, m);
        auto const t = check_schedule(s);
        REQUIRE(live_counts(s) == t.stage_copies);
        REQUIRE(live_counts(s, {}, s.rank_of_stage) == t.rank_copies);
        for (auto life : {StashLife{}, StashLife{Work::F, Work::B}, StashLife{Work::B, Work::W}})
            for (auto const& pools : {own, s.rank_of_stage})
                REQUIRE(fault_of_copies(s, live_copies(s, life, pools), life, pools) == "");
    });
    // ZB-H1 keeps from F to B what 1F1B does, and weight gradients wait in the room that is left.
    auto const s = make_schedule("zb-h1", 4, 1, 8);
    CHECK(live_counts(s, {Work::F, Work::B}) == std::vector<int>{4, 3, 2, 1});
    CHECK(live_counts(s, {Work::B, Work::W}) == std::vector<int>{1, 2, 3, 4});
    CHECK(live_counts(s) == std::vector<int>{4, 4, 4, 4});
    CHECK(live_counts(make_schedule("gpipe", 4, 1, 8)) == std::vector<int>{8, 8, 8, 8});
    // 0F0 0F1 0B0 0W0 0F2 ...: the third forward takes the copy that is free again.
    CHECK(live_copies(make_schedule("1f1b", 2, 1, 4))[0] ==
          std::vector<int>{0, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1});
    // Control: one copy less, and the law sees it.
    auto copies = live_copies(s);
    for (auto& row : copies)
        for (auto& c : row) c %= 3;
    CHECK(fault_of_copies(s, copies, {}, s.rank_of_stage) != "");

    auto wrong = [&](std::vector<int> const& pools) {
        return message_of<UsageError>([&] { live_counts(s, {}, pools); });
    };
    CHECK_THAT(wrong({0, 1, 1, 2}),
               ContainsSubstring("stages 1 and 2 share a pool, but lie on ranks 1 and 2"));
    CHECK_THAT(wrong({0, 1}), ContainsSubstring("pools of 2 stages, but it has 4"));
    CHECK_THAT(wrong({0, 1, 2, 9}), ContainsSubstring("pool 9: count from 0 to 3"));
}

TEST_CASE("a schedule that cannot be says what can") {
    CHECK(fault("1f1p", 2, 1, 4) ==
          "there is no schedule 1f1p: use gpipe, 1f1b, interleaved, zb-h1, zb-v, csv:FILE; the nearest is "
          "1f1b");
    CHECK_THAT(fault("interleavd", 2, 1, 4), ContainsSubstring("the nearest is interleaved"));
    CHECK_THAT(fault("", 2, 1, 4), ContainsSubstring("there is no schedule"));
    CHECK(fault("interleaved", 4, 2, 6) ==
          "schedule interleaved: 6 micro-batches on 4 ranks: use a multiple of 4, like 8, or 1f1b");
    CHECK(fault("interleaved", 4, 1, 8) ==
          "schedule interleaved: 1 virtual stage on a rank: use 2 or more, or 1f1b");
    CHECK(fault("1f1b", 4, 2, 8) ==
          "schedule 1f1b: 2 virtual stages on a rank: it always has 1; interleaved takes any number");
    CHECK_THAT(fault("zb-v", 4, 3, 8), ContainsSubstring("it always has 2"));
    CHECK_THAT(fault("1f1b", 4, 1, 0), ContainsSubstring("0 micro-batches: use 1 or more"));
    CHECK_THAT(fault("1f1b", 0, 1, 1), ContainsSubstring("0 ranks: use 1 or more"));
    CHECK_THAT(fault("1f1b", 1, -1, 1), ContainsSubstring("-1 virtual stages on a rank: use 1 or more"));
    CHECK_THAT(fault("gpipe", 1 << 20, 1, 1 << 20), ContainsSubstring("use fewer micro-batches"));
    CHECK_THAT(fault("interleaved", 2, 1 << 30, 2), ContainsSubstring("are more than"));
}

TEST_CASE("a schedule of a file must have the sizes that are asked for") {
    ScratchFolder folder;
    auto const s = make_schedule("zb-v", 2, 2, 3);
    auto const path = (folder / "a.csv").string(), name = "csv:" + path;
    put_text(path, schedule_csv(s));
    for (int v : {1, 2}) {
        auto const read = make_schedule(name, 2, v, 3, read_file);
        CHECK(read.name == name);
        CHECK(read.slots == s.slots);
        CHECK(read.rank_of_stage == s.rank_of_stage);
    }
    auto wrong = [&](std::string const& what, int p, int v, int m, ReadText const& read) {
        return message_of<UsageError>([&] { make_schedule(what, p, v, m, read); });
    };
    CHECK_THAT(wrong(name, 3, 1, 3, read_file),
               ContainsSubstring("its 2 rows are as many ranks, but the pipeline has 3"));
    CHECK_THAT(wrong(name, 2, 3, 3, read_file),
               ContainsSubstring("it has 4 stages, not 3 on each of 2 ranks: ask for 2"));
    CHECK_THAT(wrong(name, 2, 2, 4, read_file), ContainsSubstring("it is for 3 micro-batches a rank, not 4"));
    CHECK_THAT(wrong("csv:", 2, 2, 4, read_file), ContainsSubstring("write the path"));
    CHECK_THAT(wrong(name, 2, 2, 4, {}), ContainsSubstring("give make_schedule a way to read files"));
    CHECK_THAT(wrong(name + "x", 2, 2, 4, read_file), ContainsSubstring("a.csvx: No such file"));
    CHECK_THAT(wrong("csv:" + folder.path().string(), 2, 2, 4, read_file), ContainsSubstring("directory"));
}
