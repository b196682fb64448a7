#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11) && defined(PLAIT_HAS_JSON)

#include "../../src/tools/run_data.hpp"
#include "../../src/tools/svg.hpp"
#include "catch.hpp"
#include "plait/core/random.hpp"
#include "scratch.hpp"

#include <cmath>

using namespace plait;
using namespace plait::tools;

namespace {

std::string ticks_text(Axis const& axis) {
    std::string text;
    for (auto t : axis.ticks) text += (text.empty() ? "" : " ") + axis.text(t);
    return text;
}

RunData run_of(ScratchFolder const& folder, std::string const& metrics) {
    put_text(folder / "metrics.jsonl", metrics);
    return read_run(folder.path().string());
}

}  // namespace

TEST_CASE("axes have ticks at round numbers") {
    CHECK(ticks_text(make_axis(1.83, 5.6, 5, false, true)) == "1 2 3 4 5 6");
    CHECK(ticks_text(make_axis(0, 0.001, 5, false, true)) == "0 0.0002 0.0004 0.0006 0.0008 0.0010");
    CHECK(ticks_text(make_axis(0, 46'000, 5, false, true)) == "0 10,000 20,000 30,000 40,000 50,000");
    CHECK(ticks_text(make_axis(0, 3, 6, true, false)) == "0 1 2 3");
    CHECK(ticks_text(make_axis(-0.3, 0.2, 5, false, true)) == "-0.3 -0.2 -0.1 0 0.1 0.2");
    CHECK(ticks_text(make_axis(0, 1e-7, 2, false, true)) == "0 5e-08 1e-07");
    // A constant has an axis around it.
    auto flat = make_axis(2.5, 2.5, 5, false, true);
    CHECK((flat.low < 2.5 && 2.5 < flat.high));
}

TEST_CASE("an axis holds its range, with few ticks inside it") {
    Random random{7, 1, 0};
    for (std::uint64_t i = 0; i < 2000; ++i) {
        auto low = std::ldexp(random.uniform(2 * i) - 0.5, static_cast<int>(random.word(9 * i) % 60) - 30);
        auto high = low + std::ldexp(random.uniform(2 * i + 1) + 0.01,
                                     static_cast<int>(random.word(7 * i) % 60) - 30);
        if (high - low < std::abs(low) * 1e-9) continue;
        auto axis = make_axis(low, high, 5, false, true);
        CAPTURE(low, high);
        CHECK((axis.low <= low + axis.step * 1e-6 && axis.high >= high - axis.step * 1e-6));
        CHECK((axis.ticks.size() >= 3 && axis.ticks.size() <= 8));
        for (std::size_t k = 1; k < axis.ticks.size(); ++k) CHECK(axis.ticks[k] > axis.ticks[k - 1]);
    }
}

TEST_CASE("text becomes markup that cannot end an element") {
    CHECK(escaped("a<b>&\"c\"\n\t") == "a&lt;b&gt;&amp;&quot;c&quot;\n\t");
    std::string const bad = "\xEF\xBF\xBD";
    CHECK(valid_utf8("häß 中 \xF0\x9F\x98\x80") == "häß 中 \xF0\x9F\x98\x80");
    CHECK(valid_utf8("a\xFF"
                     "b") == "a" + bad + "b");
    CHECK(valid_utf8("\xC0\xAF") == bad + bad);            // overlong
    CHECK(valid_utf8("\xED\xA0\x80") == bad + bad + bad);  // half of a pair
    CHECK(valid_utf8("\xE4\xB8") == bad + bad);            // cut
    CHECK(escaped(std::string_view("\0\x1b\x7f", 3)) == bad + bad + bad);
}

TEST_CASE("rows of a run are read by column") {
    ScratchFolder folder;
    auto run = run_of(folder,
                      "{\"step\": 0, \"validation_loss\": 5.5}\n"
                      "{\"step\": 1, \"loss\": 5.25, \"mfu\": null, \"params_hash\": \"00ff\"}\n"
                      "\n"
                      "{\"step\": 2, \"loss\": null, \"mfu\": null}\n"
                      "{\"step\": 3, \"loss\": 4.5}\n");
    auto const& loss = run.column("loss");
    CHECK(loss.steps == std::vector<double>{1, 2, 3});
    CHECK((loss.values[0] == 5.25 && std::isnan(loss.values[1]) && loss.values[2] == 4.5));
    CHECK(run.column("validation_loss").steps == std::vector<double>{0});
    CHECK_FALSE(run.column("mfu").last());
    CHECK(run.column("params_hash").steps.empty());
    CHECK(run.column("nothing").steps.empty());
    REQUIRE(run.notes.size() == 1);
    CHECK_THAT(run.notes[0], ContainsSubstring("config.toml"));
}

TEST_CASE("a cut last line and steps done again are no errors") {
    ScratchFolder folder;
    auto run = run_of(folder,
                      "{\"step\": 1, \"loss\": 5}\n{\"step\": 2, \"loss\": 4}\n{\"step\": 3, \"loss\": 3}\n"
                      "{\"step\": 2, \"loss\": 4.5}\n{\"step\": 3, \"lo");
    CHECK(run.column("loss").steps == std::vector<double>{1, 2});
    CHECK(run.column("loss").values == std::vector<double>{5, 4.5});
    std::string notes;
    for (auto const& n : run.notes) notes += n + "\n";
    CHECK_THAT(notes, ContainsSubstring("metrics.jsonl:5: the last line is cut"));
    CHECK_THAT(notes, ContainsSubstring("went back 1 time"));
}

TEST_CASE("a damaged row is named by file and line") {
    for (std::string bad : {"{\"step\": 2, \"loss\":", "[1, 2]", "{\"loss\": 3}", "{\"step\": \"two\"}",
                            "{\"step\": -1}", "{\"step\": 1.5}", "NaN", "\xFF\xFE"}) {
        ScratchFolder folder;
        CAPTURE(bad);
        CHECK_THROWS_WITH(run_of(folder, "{\"step\": 1, \"loss\": 5}\n" + bad + "\n{\"step\": 3}\n"),
                          ContainsSubstring("metrics.jsonl:2: is no row of a run"));
    }
}

TEST_CASE("samples are read when they are there") {
    ScratchFolder folder;
    put_text(folder / "samples.jsonl",
             "{\"step\": 1, \"prompt\": \"a\", \"text\": \"b\\n\\u00e4\"}\n"
             "{\"step\": 5, \"prompt\": \"a\", \"text\": \"old\"}\n"
             "{\"step\": 3, \"prompt\": \"a\", \"text\": \"again\xFF\"}\n");
    auto run = run_of(folder, "{\"step\": 1, \"loss\": 5}\n");
    REQUIRE(run.samples.size() == 2);
    CHECK(run.samples[0].text == "b\nä");
    CHECK((run.samples[1].step == 3 && run.samples[1].text == "again\xEF\xBF\xBD"));
}

#endif
