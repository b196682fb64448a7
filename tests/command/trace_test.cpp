#if defined(PLAIT_COMMAND) && defined(PLAIT_HAS_JSON)

#include "command.hpp"
#include "trace_rows.hpp"

#include <nlohmann/json.hpp>

using namespace tests;

namespace {

TraceRows rows_of(std::string const& file) { return TraceRows(nlohmann::json::parse(get_text(file))); }

Arguments on_two_stages(Arguments const& more = {}) {
    return Arguments{"--cluster",
                     "threads:2",
                     "--mesh",
                     "pipeline=2",
                     "--plan.micro_batches=4",
                     "--plan.schedule=zb-h1"} +
           more;
}

}  // namespace

TEST_CASE("train --trace writes what every rank did in the third step into the run's folder") {
    ScratchFolder folder;
    auto const f = good(small_run(folder / "a", on_two_stages({"--trace", "--run.steps=4"})));
    auto const file = (folder / "a" / "trace.json").string();
    CHECK_THAT(f.out, ContainsSubstring("trace " + file + ": step 3, "));
    auto const rows = rows_of(file);
    CHECK(rows.fault() == "");
    CHECK(rows.names.at({0, -1}) == "rank 0: pipeline=0");
    for (int r = 0; r < 2; ++r) {
        CHECK(rows.named(r, "step") == std::vector<std::string>{"step 3"});
        auto const pieces = rows.named(r, "piece");
        for (auto const* work : {"F", "B", "W"})
            CHECK(std::count(pieces.begin(), pieces.end(), fmt::format("stage {} {}", r, work)) == 4);
    }
    CHECK_FALSE(rows.sent.empty());
    // The bits are those of a run without it.
    good(small_run(folder / "b", on_two_stages({"--run.steps=4"})));
    CHECK(column(folder / "a", "params_hash") == column(folder / "b", "params_hash"));
    CHECK_FALSE(std::filesystem::exists(folder / "b" / "trace.json"));
}

TEST_CASE("train --trace takes a file and a number of steps, and what a short run has") {
    ScratchFolder folder;
    auto const file = (folder / "t.json").string();
    auto steps = [&](std::string const& run, Arguments const& more) {
        good(small_run(folder / run, Arguments{"--trace", file} + more));
        auto const rows = rows_of(file);
        CHECK(rows.fault() == "");
        CHECK(rows.names.at({0, -1}) == "rank 0");
        return rows.named(0, "step");
    };
    using Names = std::vector<std::string>;
    CHECK(steps("a", {"--trace-steps", "2", "--run.steps=6"}) == Names{"step 3", "step 4"});
    CHECK(steps("b", {"--run.steps=2"}) == Names{"step 2"});
    CHECK(steps("c", {"--trace-steps=5", "--run.steps=2"}) == Names{"step 1", "step 2"});
    CHECK(steps("a", {"--resume", "--run.steps=9"}) == Names{"step 9"});
}

TEST_CASE("a trace that cannot be is refused before a step") {
    ScratchFolder folder;
    auto run = [&](Arguments const& more) { return small_run(folder / "a", more); };
    refused(2, "there is no folder", run({"--trace", (folder / "none" / "t.json").string()}));
    refused(2, "is a folder: name a file", run({"--trace", folder.path().string()}));
    refused(2, "--trace-steps 0: must be at least 1", run({"--trace", "--trace-steps=0"}));
    refused(2, "--trace-steps goes with --trace", run({"--trace-steps=2"}));
    refused(2, "and --dry-run makes none", run({"--trace", "--dry-run"}));
    CHECK_FALSE(std::filesystem::exists(folder / "a"));
}

TEST_CASE("dumps of a pipeline show its stages, its table, and the visits of a rank") {
    ScratchFolder folder;
    auto dump = [&](std::string const& what) {
        return good(small_run(folder / "a", on_two_stages({"--dump", what}))).out;
    };
    auto const schedule = dump("schedule");
    for (auto const* text : {"2 ranks, 2 stages by zb-h1; micro-batches of each: 4\n", "stage 0: blocks.0\n",
                             "stage 1: blocks.1\n", "rank 0  FF.BWFBWFBWBW\n",
                             "alive   2 2 by rank, 2 2 by stage\n", "piece stage 0 F", "visit stage 0 W"})
        CHECK_THAT(schedule, ContainsSubstring(text));
    CHECK_THAT(schedule, !ContainsSubstring("stage 1 F"));
    CHECK_THAT(dump("layout"), ContainsSubstring("of this rank"));
    CHECK_THAT(dump("layout.dot"), ContainsSubstring("digraph"));
    CHECK_THAT(dump("program"), ContainsSubstring("stage 0 B (4 x)"));
    auto const plan = dump("plan");
    for (auto const* text : {"pipeline=2", "stages of      blocks.*\n", "schedule       zb-h1\n",
                             "stage 0: blocks.0\n", "rank 0  FF.BWFBWFBWBW\n"})
        CHECK_THAT(plan, ContainsSubstring(text));
    auto const memory = dump("memory");
    CHECK_THAT(memory, ContainsSubstring("stash"));
}

TEST_CASE("the line about a trace names the steps that it has, after a rollback too") {
    ScratchFolder folder;
    // From step 2 on nothing is finite: 2 is skipped, 3 goes back to 2, and stops when it comes again.
    auto const f = plait(small_run(
        folder / "a",
        {"--optimizer.rate=1e30", "--optimizer.warmup=0", "--checkpoint.every=1", "--optimizer.skips=1",
         "--optimizer.rollbacks=1", "--run.steps=4", "--trace", "--trace-steps=3"}));
    CAPTURE(f.out, f.err);
    REQUIRE_THAT(f.out, ContainsSubstring("(rollback 1 of at most 1)"));
    auto const rows = rows_of((folder / "a" / "trace.json").string());
    CHECK(rows.named(0, "step") == std::vector<std::string>{"step 2", "step 3", "step 3"});
    CHECK_THAT(f.out, ContainsSubstring("trace.json: steps 2 to 3, "));
}

TEST_CASE("a dry run of a pipeline shows the rank that needs most, as the run has it") {
    ScratchFolder folder;
    // The last stage has the whole vocabulary's logits, and the first the table of tokens alone.
    auto const more = on_two_stages({"--model.vocab=300", "--run.steps=2"});
    auto const dry = good(small_run(folder / "a", more + Arguments{"--dry-run"})).out;
    CHECK_THAT(dry, ContainsSubstring("memory of the one of the 2 ranks that has most, rank "));
    CHECK_THAT(dry, ContainsSubstring("  stash "));
    good(small_run(folder / "a", more));
    auto const peak = column(folder / "a", "memory_peak_bytes").back();
    std::string digits;
    auto const row = dry.substr(dry.find("  arena "));
    for (char c : row.substr(0, row.find(" B")))
        if (std::isdigit(static_cast<unsigned char>(c))) digits += c;
    CHECK(digits == peak);
}

TEST_CASE("a dry run shows the rank whose part of a snapshot is largest, and who draws samples") {
    ScratchFolder folder;
    auto dry = [&](Arguments const& more) {
        return good(small_run(folder / "a", Arguments{"--dry-run"} + more)).out;
    };
    // With one layer the second of two that take turns writes more.
    Arguments const turns{"--mesh=data=2", "--model.layers=1", "--checkpoint.every=1"};
    CHECK_THAT(dry(turns), ContainsSubstring("memory of the one of the 2 ranks that has most, rank 1\n"));
    CHECK_THAT(dry({"--mesh=data=2"}), ContainsSubstring("memory of one of the 2 ranks, rank 0\n"));
    // The last stage has two of three blocks.
    auto const drawing = dry({"--mesh=pipeline=2", "--plan.schedule=gpipe", "--plan.micro_batches=4",
                              "--data.batch=16", "--data.seq=128", "--model.layers=3",
                              "--plan.stages=[\"blocks.0\", \"blocks.{1,2}\"]", "--run.sample_every=1"});
    CHECK_THAT(drawing, ContainsSubstring("rank 0 draws them"));
    CHECK_THAT(dry({"--run.sample_every=1"}), ContainsSubstring("of what draws them, on rank 0"));
    CHECK_THAT(dry({}), ContainsSubstring("none are drawn"));
}

#endif
