#include "plait/parallel/schedule_csv.hpp"
#include "schedules.hpp"

using namespace plait;

namespace {

std::string fault(std::string const& text) {
    return message_of<UsageError>([&] { parse_schedule_csv(text, "a.csv"); });
}

}  // namespace

TEST_CASE("schedules are the same after they are written and read") {
    for_each_schedule(4, 8, [&](ScheduleRow const& row, int p, int v, int m) {
        auto s = make_schedule(std::string(row.name), p, v, m);
        auto const read = parse_schedule_csv(schedule_csv(s), "a.csv");
        s.name = "csv:a.csv", s.whole_backward = false;
        CAPTURE(row.name, p, v, m);
        REQUIRE(read == s);
    });
    for (std::uint64_t site = 0; site < 300; ++site) {
        auto s = random_schedule({9, site, 0});
        auto const read = parse_schedule_csv(schedule_csv(s), "a.csv");
        s.name = "csv:a.csv";
        CAPTURE(site);
        REQUIRE(read == s);
        REQUIRE_NOTHROW(check_schedule(read));
    }
}

TEST_CASE("blanks, empty cells and line ends are passed over") {
    auto const plain = parse_schedule_csv("0F0,0B0,0W0\n1F0,1B0,1W0\n", "a.csv");
    CHECK(plain.ranks == 2);
    CHECK(plain.stages == 2);
    CHECK(plain.micro_batches == 1);
    CHECK(plain.rank_of_stage == std::vector<int>{0, 1});
    CHECK(plain == parse_schedule_csv("\xEF\xBB\xBF 0F0,, ,0B0 ,\t0W0,,\r\n,1F0,1B0,,1W0\r\n\r\n", "a.csv"));
    CHECK(plain == parse_schedule_csv("0F0,0B0,0W0\n1F0,1B0,1W0", "a.csv"));
}

TEST_CASE("a cell that is wrong is named by file, row and cell") {
    CHECK(fault("0F0,0X0,0W0") ==
          "a.csv: row 1, cell 2: \"0X0\" is no piece: write stage, F, B or W, and micro-batch, like 0F3");
    for (std::string bad : {"F0", "0F", "0", "F", "-1F0", "0F-1", "0f0", "0F0x", "0F0 0B0", "0F99999999999",
                            "+0F0", "0 F0", "0I0", "0F1.5", "\"0F0\"", ";", "0F0;0B0"})
        CHECK_THAT(fault("0F0,0B0,0W0\n1F0,," + bad),
                   ContainsSubstring("a.csv: row 2, cell 3: \"" + bad + "\""));
    CHECK(fault("0F0,0B0,0W0,1F0\n1B0,1W0") ==
          "a.csv: row 2, cell 1: 1B0 is of stage 1, which row 1 has (cell 4): keep a stage on one rank");
    CHECK(fault("0F0,0B0,0W0\n2F0,2B0,2W0") ==
          "a.csv: row 2, cell 1: stage 2, but there is no stage 1: count from 0 without gaps");
    CHECK(fault("0F0,0F2,0B0,0B2,0W0,0W2") ==
          "a.csv: row 1, cell 2: micro-batch 2, but there is no micro-batch 1: count from 0 without gaps");
    CHECK_THAT(fault("0F2147483647"), ContainsSubstring("there is no micro-batch 0"));
    CHECK_THAT(fault("2147483647F0"), ContainsSubstring("there is no stage 0"));
    CHECK(fault("0F0,0B0,0W0\n\n1F0,1B0,1W0") ==
          "a.csv: row 2: no piece in it: each rank has a stage at least; take the row out");
    CHECK_THAT(fault(""), ContainsSubstring("a.csv: no schedule in it"));
    CHECK_THAT(fault("\r\n \n"), ContainsSubstring("a.csv: no schedule in it"));
    CHECK_THAT(fault("0F" + std::string(100, '7')),
               ContainsSubstring("\"0F77777777777777777777777777777777777777\" is"));
}

TEST_CASE("a damaged table is refused, or is another one that works") {
    auto const text = schedule_csv(make_schedule("zb-v", 3, 2, 5));
    Random const random{17, 0, 0};
    int refused = 0, taken = 0;
    for (std::uint64_t i = 0; i < 3000; ++i) {
        auto damaged = text;
        auto const at = random.word(2 * i) % damaged.size();
        constexpr std::string_view characters = "0123456789FBW,\n x\xFF";
        if (i % 3 == 0) damaged.erase(at, 1 + i % 7);
        else damaged[at] = characters[random.word(2 * i + 1) % characters.size()];
        try {
            auto const s = parse_schedule_csv(damaged, "a.csv");
            auto const t = check_schedule(s);
            REQUIRE(timeline_fault(s, even_costs(s, 1, 1, 1), t) == "");
            ++taken;
        } catch (UsageError const& e) {
            REQUIRE_THAT(std::string(e.what()), ContainsSubstring("a.csv"));
            ++refused;
        }
    }
    CHECK(refused > 2000);
    CHECK(taken > 0);
}
