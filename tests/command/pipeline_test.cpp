#ifdef PLAIT_COMMAND

#include "command.hpp"

namespace {

/// A run of four layers that any mesh of eight ranks can divide.
Arguments deep_run(std::filesystem::path const& out, Arguments const& more = {}) {
    return small_run(out, Arguments{"--model.layers=4", "--data.batch=16", "--plan.micro_batches=8",
                                    "--run.steps=8", "--optimizer.curve=constant", "--bits=layout",
                                    "--plan.lines=[\"megatron tensor\", \"sequence tensor\"]"} +
                              more);
}

Arguments on(int ranks, std::string const& mesh, int zero = 0, std::string const& schedule = "1f1b") {
    return {fmt::format("--cluster=threads:{}", ranks), "--mesh=" + mesh, fmt::format("--plan.zero={}", zero),
            "--plan.schedule=" + schedule};
}

std::vector<std::string> hashes(std::filesystem::path const& run) { return column(run, "params_hash"); }

/// Two ranks along pipeline.
Arguments two(Arguments const& more = {}) {
    return Arguments{"--cluster=threads:2", "--mesh=pipeline=2", "--plan.micro_batches=2"} + more;
}

}  // namespace

TEST_CASE("a run on data x tensor x pipeline has the hashes of one rank, on every schedule") {
    ScratchFolder folder;
    good(deep_run(folder / "one"));
    auto const wanted = hashes(folder / "one");
    REQUIRE(wanted.size() == 8);
    for (auto const* schedule : {"gpipe", "1f1b", "zb-h1", "interleaved", "zb-v"}) {
        auto const out = folder / schedule;
        Arguments const stages{std::string(schedule) == "interleaved" ? "--plan.virtual_stages=2"
                                                                      : "--plan.virtual_stages=1"};
        good(deep_run(out, on(8, "data=2,tensor=2,pipeline=2", 1, schedule) + stages));
        CAPTURE(schedule);
        CHECK(hashes(out) == wanted);
        CHECK(column(out, "loss") == column(folder / "one", "loss"));
    }
    good(deep_run(folder / "seed", on(8, "data=2,tensor=2,pipeline=2", 1) + Arguments{"--run.seed=2"}));
    CHECK(hashes(folder / "seed") != wanted);
}

TEST_CASE("a checkpoint of stages goes on on one rank and on others, and back") {
    ScratchFolder folder;
    Arguments const save{"--checkpoint.every=4"};
    auto const eight = on(8, "data=2,tensor=2,pipeline=2", 2), four = on(4, "pipeline=4", 0, "zb-h1"),
               one = on(1, "data=1");
    good(deep_run(folder / "eight", save + eight));
    good(deep_run(folder / "one", save + one));
    auto const wanted = hashes(folder / "one");
    REQUIRE(wanted.size() == 8);
    CHECK(hashes(folder / "eight") == wanted);
    int runs = 0;
    auto go_on = [&](std::string const& from, std::string const& name, Arguments const& where) {
        auto const run = folder / (from + "-" + name);
        std::filesystem::copy(folder / from, run, std::filesystem::copy_options::recursive);
        REQUIRE(std::filesystem::remove_all(run / "checkpoints" / "step-00000008") > 0);
        auto const f = good(deep_run(run, save + where + Arguments{"--resume"}));
        CHECK_THAT(f.out, ContainsSubstring("steps 5 to 8"));
        CAPTURE(from, name);
        CHECK(hashes(run) == wanted);
        ++runs;
    };
    go_on("eight", "one", one);
    go_on("eight", "four", four);
    go_on("one", "eight", eight);
    go_on("eight-four", "one", one);
    CHECK(runs == 4);
    CHECK(good({"generate", (folder / "eight").string(), "--quiet", "--prompt", "The ", "--tokens", "20"})
              .out ==
          good({"generate", (folder / "one").string(), "--quiet", "--prompt", "The ", "--tokens", "20"}).out);
}

TEST_CASE("stages record and draw what one rank does, and are bisected") {
    ScratchFolder folder;
    auto at = [&](char const* name) { return (folder / name).string(); };
    Arguments const more{"--run.steps=2", "--run.sample_every=1", "--run.sample_tokens=20"};
    good(deep_run(folder / "one-run", more + Arguments{"--record", at("one")}));
    good(deep_run(folder / "stages-run",
                  more + on(4, "tensor=2,pipeline=2") + Arguments{"--record", at("stages")}));
    CHECK(good({"bisect", at("one"), at("stages")}).out.starts_with("same: all "));
    CHECK(get_text(folder / "one-run" / "samples.jsonl") ==
          get_text(folder / "stages-run" / "samples.jsonl"));
    good(deep_run(folder / "seed-run",
                  more + on(2, "pipeline=2") + Arguments{"--record", at("seed"), "--run.seed=2"}));
    auto const found = plait({"bisect", at("one"), at("seed"), "--rows=1"});
    CHECK(found.code == 1);
    CHECK(found.out.starts_with("fault: step 1"));

    Arguments const small{"bisect",
                          "--data.path=examples/text",
                          "--data.batch=8",
                          "--data.seq=32",
                          "--model.dim=32",
                          "--model.layers=2",
                          "--model.heads=2",
                          "--steps",
                          "2"};
    auto const rounding =
        good(small + Arguments{"--a", "--mesh pipeline=2 --cluster threads:2 --plan.micro_batches=4", "--b",
                               "--cluster threads:1"});
    CHECK(rounding.out.starts_with("rounding: "));
    CHECK_THAT(rounding.out, ContainsSubstring("pipeline=2"));
    CHECK(good(small + Arguments{"--plan.bits=layout", "--a", "--mesh pipeline=2 --plan.micro_batches=4",
                                 "--b", "--mesh data=2,pipeline=2 --plan.micro_batches=8"})
              .out.starts_with("same: all "));
}

TEST_CASE("stages and schedules that cannot be are refused by their key") {
    ScratchFolder folder;
    auto const out = folder / "a";
    auto run = [&](Arguments const& more) { return small_run(out, two() + more); };
    refused(2, "plan: stages: blocks.* names 2 modules, fewer than the 4 stages",
            small_run(out, {"--cluster=threads:4", "--mesh=pipeline=4"}));
    refused(2, "plan: stages: blocks.* names 2 modules, fewer than the 4 stages",
            run({"--plan.schedule=interleaved", "--plan.virtual_stages=2"}));
    refused(2, "plan: stages: layers.* names no module", run({"--plan.stages=[\"layers.*\"]"}));
    refused(2, "plan: stages: blocks.7 names no module, so stage 1 is empty",
            run({"--plan.stages=[\"blocks.*\", \"blocks.7\"]"}));
    refused(2, "plan: stages: 3 globs for 2 stages",
            run({"--plan.stages=[\"blocks.0\", \"blocks.1\", \"norm\"]"}));
    refused(2, "plan.schedule = \"interleaved\": schedule interleaved: 1 micro-batches on 2 ranks",
            run({"--plan.schedule=interleaved", "--plan.virtual_stages=2", "--plan.micro_batches=1"}));
    refused(2, "plan.schedule = \"1f1b\": schedule 1f1b: 2 virtual stages", run({"--plan.virtual_stages=2"}));
    refused(2, "plan.schedule = \"2f2b\"", run({"--plan.schedule=2f2b"}));
    for (auto const* line : {"shard **.q.weight pipeline 0", "store ** pipeline * of optimizer"})
        refused(2, "the pipeline axis divides modules, not values: use stages",
                run({fmt::format("--plan.lines=[\"{}\"]", line)}));
    CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("a table of slots is refused with the slot that is wrong, or runs") {
    ScratchFolder folder;
    auto const out = folder / "a";
    std::string const first = "0F0,0B0,0W0,0F1,0B1,0W1\n", second = "1F0,1B0,1W0,1F1,1B1,1W1\n";
    auto run = [&](std::string const& text, Arguments const& more = {}) {
        put_text(folder / "table.csv", text);
        return small_run(out, two({"--plan.schedule=csv:" + (folder / "table.csv").string()}) + more);
    };
    refused(2, "a deadlock: rank 0, slot 1 (0B0) waits for 1B0 in slot 0 of rank 1",
            run(first + "1B0,1F0,1W0,1F1,1B1,1W1\n"));
    refused(2, "table.csv\": ", run(first + "1B0,1F0,1W0,1F1,1B1,1W1\n"));
    refused(2, "rank 0, slot 1: 0F0 is done in slot 0 already",
            run("0F0,0F0,0B0,0W0,0F1,0B1,0W1\n" + second));
    refused(2, "rank 1 forgets 1W1", run(first + "1F0,1B0,1W0,1F1,1B1\n"));
    refused(2, "rank 0, slot 4: 0W1 comes before 0W0", run("0F0,0F1,0B0,0B1,0W1,0W0\n" + second));
    refused(2, "table.csv\": ", run("0F1,0F0,0B0,0W0,0B1,0W1\n1F1,1F0,1B0,1W0,1B1,1W1\n"));
    refused(2, "0F1 comes before 0F0", run("0F1,0F0,0B0,0W0,0B1,0W1\n1F1,1F0,1B0,1W0,1B1,1W1\n"));
    refused(2, "for 2 micro-batches a rank, not 4", run(first + second, {"--plan.micro_batches=4"}));
    refused(2, "cannot read", small_run(out, two({"--plan.schedule=csv:/no/such.csv"})));
    // All micro-batches under way at once: terabytes, where the rest takes two gigabytes.
    std::string all;
    for (int rank = 0; rank < 2; ++rank) {
        for (auto const* works : {"F", "BW"})
            for (int m = 0; m < 1024; ++m)
                for (char work : std::string_view(works))
                    all += fmt::format("{}{}{}{}", rank, work, m, work == 'W' && m == 1023 ? "\n" : ",");
    }
    Arguments const wide{"--plan.micro_batches=1024", "--data.batch=4194304", "--model.dim=256"};
    refused(2, "table.csv: rank 0, slot ", run(all, wide));
    refused(2, ") takes what waits for backward to ", run(all, wide));
    CHECK_FALSE(std::filesystem::exists(out));
    Arguments const layout{"--bits=layout", "--data.batch=8"};
    good(run(first + second, layout));
    good(small_run(folder / "one", layout));
    CHECK(hashes(out) == hashes(folder / "one"));
}

#endif
