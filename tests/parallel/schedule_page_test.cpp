#include "plait/parallel/schedule_live.hpp"
#include "plait/parallel/schedule_text.hpp"
#include "schedules.hpp"

using namespace plait;

namespace {

std::string joined(std::vector<int> const& values) {
    std::string text;
    for (auto v : values) text += fmt::format("{}{}", text.empty() ? "" : " ", v);
    return text;
}

/// What docs/schedules.md shows of a schedule.
std::string block_of(ScheduleRow const& row) {
    auto const s = make_schedule(std::string(row.name), 4, virtual_stages_of(row, 2), 8);
    auto const t = check_schedule(s);
    return fmt::format(
        "```text\n{}bubble  {:.0f} of {:.0f}, {:.1f} % of the work\nalive   {} by rank, {} by stage\n```\n",
        schedule_text(s, t), t.bubble[0], t.makespan, 100 * t.bubble_fraction, joined(t.rank_copies),
        joined(live_counts(s)));
}

}  // namespace

TEST_CASE("the page of schedules shows what they are") {
    auto const page = get_text(SOURCE_DIR "/docs/schedules.md");
    for (auto const& row : schedule_table()) CHECK_THAT(page, ContainsSubstring(block_of(row)));
}

TEST_CASE("the page's table of one's own is 1F1B") {
    auto const page = get_text(SOURCE_DIR "/docs/schedules.md");
    auto const first = page.find("```text\n0F0,");
    REQUIRE(first != page.npos);
    auto const table = page.substr(first + 8, page.find("```", first + 8) - first - 8);
    CHECK(parse_schedule_csv(table, "page").slots == make_schedule("1f1b", 2, 1, 3).slots);
}

TEST_CASE("schedules are drawn as letters") {
    auto const s = make_schedule("zb-v", 1, 2, 2);
    CHECK(schedule_text(s, check_schedule(s)) ==
          "rank 0  FFBWFBWFBWBW\n"
          "stage   011100011100\n"
          "micro   000010011111\n");
    // Numbers of two digits stand upright; a column is the shortest piece, or as long as is asked.
    auto const more = make_schedule("1f1b", 2, 1, 11);
    auto const t = check_schedule(more, even_costs(more, 1, 2, 1));
    CHECK_THAT(schedule_text(more, t), ContainsSubstring("rank 1  .FBBWFBBW"));
    CHECK_THAT(schedule_text(more, t),
               ContainsSubstring("micro    00000000000000000000000000000000000000001111\n"
                                 "         00001111222233334444555566667777888899990000\n"));
    CHECK_THAT(schedule_text(more, t, 0.5), ContainsSubstring("rank 1  ..FFBBBBWWFF"));
    CHECK(schedule_text(s, check_schedule(s, even_costs(s, 0, 0, 0))) == "rank 0\nstage\nmicro\n");
}
