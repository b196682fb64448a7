#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11) && defined(PLAIT_HAS_JSON)

#include "../../src/tools/schedule_picture.hpp"
#include "../command/markup.hpp"
#include "catch.hpp"
#include "scratch.hpp"

#include <cstdlib>

using namespace plait;
using namespace plait::tools;

namespace {

int times(std::string const& text, std::string_view part) {
    int n = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
    return n;
}

Costs costs_of(Schedule const& s, double seconds) {
    std::vector<double> const all(static_cast<std::size_t>(s.stages), seconds);
    std::vector<std::int64_t> const bytes(static_cast<std::size_t>(s.stages), 3 << 20);
    return {all, all, all, 0, bytes, bytes};
}

}  // namespace

TEST_CASE("a picture of a schedule has every piece once, in well-formed markup") {
    for (auto const& row : schedule_table()) {
        auto const s =
            make_schedule(std::string(row.name), 3, row.virtual_stages ? row.virtual_stages : 2, 6);
        auto const t = check_schedule(s);
        auto const figure = schedule_picture(s, t);
        CAPTURE(row.name);
        CHECK(markup_fault("<!DOCTYPE html>\n<html>" + schedule_patterns() + figure + "</html>") == "");
        for (int stage = 0; stage < s.stages; ++stage)
            for (int micro = 0; micro < 6; ++micro)
                for (auto work : all_work)
                    REQUIRE(times(figure, "<title>" + to_string({work, stage, micro}) + ": ") == 1);
        CHECK(times(figure, " alive</title>") == 3);
        // Later stages of a rank are fainter.
        CHECK((times(figure, "fill-opacity=\"0.50\"") > 0) == (s.stages > 3));
        CHECK_THAT(figure, !ContainsSubstring("their bytes"));
    }
}

TEST_CASE("a picture shows times, bubbles and bytes in their units") {
    auto const s = make_schedule("1f1b", 2, 1, 4);
    auto const figure = schedule_picture(s, check_schedule(s, costs_of(s, 0.002)));
    for (auto const* text :
         {"1f1b: 2 stages on 2 ranks, 4 micro-batches, bubble 25.0% of the work",
          "<title>1B0: backward, input gradient, stage 1, micro-batch 0, 4 ms to 6 ms</title>",
          "<td>24 ms</td>", "<td>6 ms</td>", "their bytes", "6.0 MiB", ">B0</text>"})
        CHECK_THAT(figure, ContainsSubstring(text));
    CHECK_THAT(schedule_picture(s, check_schedule(s, costs_of(s, 2e-6))), ContainsSubstring("24 µs"));
    CHECK_THAT(schedule_picture(s, check_schedule(s, costs_of(s, 0))), !ContainsSubstring("nan"));
}

TEST_CASE("a name in a picture cannot end an element") {
    auto s = make_schedule("1f1b", 2, 1, 4);
    s.name = "csv:<b>\"&.csv";
    auto const figure = schedule_picture(s, check_schedule(s));
    CHECK(markup_fault("<!DOCTYPE html>\n<html>" + figure + "</html>") == "");
    CHECK_THAT(figure, ContainsSubstring("csv:&lt;b&gt;&quot;&amp;.csv"));
}

TEST_CASE("a long schedule becomes a small picture") {
    auto const s = make_schedule("interleaved", 8, 4, 128);
    auto const figure = schedule_picture(s, check_schedule(s));
    CHECK(markup_fault("<!DOCTYPE html>\n<html>" + figure + "</html>") == "");
    CHECK(figure.size() < 600'000);
}

// PLAIT_WRITE_PICTURES=1 writes them anew.
TEST_CASE("the page of schedules has the pictures that are drawn") {
    for (auto const& row : schedule_table()) {
        auto const s =
            make_schedule(std::string(row.name), 4, row.virtual_stages ? row.virtual_stages : 2, 8);
        auto const svg = schedule_svg(s, check_schedule(s));
        auto const path = fmt::format("{}/docs/pictures/schedule_{}.svg", SOURCE_DIR, s.name);
        CHECK(markup_fault("<!DOCTYPE html>\n" + svg) == "");
        if (std::getenv("PLAIT_WRITE_PICTURES")) put_text(path, svg);
        CAPTURE(path);
        CHECK((get_text(path) == svg));
    }
}

#endif
