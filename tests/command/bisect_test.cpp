#ifdef PLAIT_COMMAND

#include "command.hpp"

namespace {

Arguments small_bisect(Arguments const& more) {
    return Arguments{"bisect",
                     "--data.path=examples/text",
                     "--data.batch=8",
                     "--data.seq=32",
                     "--model.dim=32",
                     "--model.layers=2",
                     "--model.heads=2",
                     "--steps",
                     "2"} +
           more;
}

/// Two steps, recorded.
void recorded(std::filesystem::path const& folder, std::string const& name, Arguments const& more) {
    good(
        small_run(folder / (name + "-run"),
                  Arguments{"--run.steps=2", "--data.batch=8", "--record", (folder / name).string()} + more));
}

}  // namespace

TEST_CASE("two layouts of a configuration are bisected") {
    auto fast = good(small_bisect({"--a", "--mesh data=2 --cluster threads:2 --plan.zero=1", "--b",
                                   "--cluster threads:1 --plan.micro_batches=4"}));
    CHECK(fast.out.starts_with("rounding: "));
    CHECK_THAT(fast.out, ContainsSubstring("judged by a run in f64"));
    CHECK_THAT(fast.out, ContainsSubstring("a: replica=1, data=2, pipeline=1, tensor=1; zero 1; bits fast"));
    auto bits = good(small_bisect({"--plan.bits=layout", "--a", "--mesh data=2 --plan.zero=3", "--b",
                                   "--mesh data=4 --plan.micro_batches=8", "--watch", "blocks.*.out"}));
    CHECK(bits.out.starts_with("same: all "));
}

TEST_CASE("recordings of two runs are bisected") {
    ScratchFolder folder;
    Arguments const canonical{"--bits", "layout"};
    recorded(folder.path(), "one", canonical);
    recorded(folder.path(), "two",
             canonical + Arguments{"--mesh=data=2", "--cluster=threads:2", "--plan.zero=2"});
    recorded(folder.path(), "seed", canonical + Arguments{"--run.seed=2", "--record-values"});
    auto const at = [&](char const* name) { return (folder / name).string(); };
    CHECK(good({"bisect", at("one"), at("two")}).out.starts_with("same: all "));
    auto const found = plait({"bisect", at("one"), at("seed"), "--rows=1"});
    CHECK(found.code == 1);
    CHECK(found.out.starts_with("fault: step 1, tokens.out, layer -"));

    recorded(folder.path(), "a", {"--record-values", "--watch", "blocks.*.out"});
    recorded(folder.path(), "b",
             {"--record-values", "--watch=blocks.*.out", "--cluster=threads:2", "--plan.micro_batches=4"});
    recorded(folder.path(), "exact", {"--record-values", "--plan.compute=f64"});
    CHECK_THAT(good({"bisect", at("a"), at("b")}).out, ContainsSubstring("judged by an estimate"));
    CHECK_THAT(good({"bisect", at("a"), at("b"), "--exact", at("exact")}).out,
               ContainsSubstring("judged by a run in f64"));
    CHECK(std::filesystem::exists(folder / "a" / "step-00000002.safetensors"));
    CHECK_FALSE(std::filesystem::exists(folder / "one" / "step-00000002.safetensors"));

    refused(2, "holds a recording already", small_run(folder / "again", {"--record", at("one")}));
    refused(2, "holds no recording", {"bisect", at("one"), at("none")});
    refused(2, "record it with --plan.compute=f64", {"bisect", at("a"), at("b"), "--exact", at("one")});
    put_text(folder / "torn" / "recording.jsonl", "{\"format\": 1");
    refused(2, "line 1 is no row of a recording", {"bisect", at("one"), at("torn")});
}

TEST_CASE("processes record what one rank does") {
    ScratchFolder folder;
    auto mpi = start_mpi(
        2, {small_run(folder / "mpi-run", {"--run.steps=2", "--data.batch=8", "--bits=layout",
                                           "--plan.zero=1", "--record", (folder / "mpi").string()})});
    auto const f = mpi->wait();
    INFO(f.out << f.err);
    REQUIRE(f.code == 0);
    recorded(folder.path(), "one", {"--bits=layout"});
    CHECK(
        good({"bisect", (folder / "one").string(), (folder / "mpi").string()}).out.starts_with("same: all "));
}

TEST_CASE("what cannot be bisected is refused") {
    refused(2, "name two folders", {"bisect"});
    refused(2, "name two folders, A and B", {"bisect", "runs/a"});
    refused(2, "give one of them", {"bisect", "runs/a", "runs/b", "--config", "x.toml"});
    refused(2, "--steps 0", {"bisect", "--a", "--mesh data=2", "--steps=0"});
    refused(2, "--data.batch is no matter of layout", small_bisect({"--a", "--data.batch=4"}));
    refused(2, "is neither --mesh", small_bisect({"--a", "data=2"}));
    refused(2, "give both one plan.compute", small_bisect({"--a", "--plan.compute=bf16"}));
    refused(2, "names no marked value", small_bisect({"--a", "--mesh data=2", "--watch", "block.*"}));
    refused(2, "--watch goes with --record", small_run("runs/none", {"--watch", "**"}));
    refused(2, "runs its ranks as threads", small_bisect({"--a", "--cluster mpi"}));
}

#endif
