#ifdef PLAIT_COMMAND

#include "command.hpp"

namespace {

constexpr char const* two_islands = "examples/clusters/two-islands.toml";

std::string with_file(std::string const& path) { return "--run.cluster_file=" + path; }

Arguments run_of(std::filesystem::path const& out, Arguments const& more) {
    return small_run(out, Arguments{"--data.batch=8", "--bits", "layout", "--optimizer.curve=constant",
                                    "--optimizer.warmup=2", "--run.sample_every=5", "--run.sample_tokens=4",
                                    "--plan.lines=[\"megatron tensor\", \"sequence tensor\"]"} +
                              more);
}

Arguments const four{"--cluster", "threads:4", "--mesh", "data=2,tensor=2", "--plan.zero=1"};

std::string line_of(std::string const& text, std::string const& start) {
    for (auto const& line : lines_of(text))
        if (line.starts_with(start)) return line;
    return "";
}

}  // namespace

TEST_CASE("a run on two islands has the hashes, checkpoints and samples of one rank") {
    ScratchFolder folder;
    // Rank 0 alone on an island: the tensor axis of the other one comes first, and rank 0 is at no first
    // place.
    auto const odd = (folder / "odd.toml").string();
    put_text(folder / "odd.toml", "[[island]]\ndevices = 1\n[[island]]\ndevices = 3\n");
    good(run_of(folder / "one", {}));
    auto const wanted = column(folder / "one", "params_hash");
    REQUIRE(wanted.size() == 10);
    auto const samples = get_text(folder / "one" / "samples.jsonl");
    auto const even = good(run_of(folder / "even", four + Arguments{with_file(two_islands)}));
    CHECK(line_of(even.out, "islands ") ==
          "islands 2 of 2 ranks, by examples/clusters/two-islands.toml: tensor lies within, data crosses");
    CHECK(line_of(even.out, "note ") == "");
    CHECK(column(folder / "even", "params_hash") == wanted);

    auto const recording = [&](char const* name) { return (folder / name).string(); };
    Arguments const on_odd = four + Arguments{with_file(odd), "--checkpoint.every=2"};
    auto const first = good(run_of(folder / "odd", on_odd + Arguments{"--record", recording("a")}));
    CHECK(line_of(first.out, "note ") ==
          "note    tensor = 2 crosses islands (1 of 3 ranks and 1 of 1 rank): no size above 1 fits all");
    CHECK(column(folder / "odd", "params_hash") == wanted);
    CHECK(column(folder / "odd", "loss") == column(folder / "one", "loss"));
    CHECK(get_text(folder / "odd" / "samples.jsonl") == samples);

    // What one order of ranks saved goes on in others, and on one rank.
    auto further = [&](char const* steps) {
        return Arguments{"--resume", std::string("--run.steps=") + steps};
    };
    good(run_of(folder / "odd", further("12")));
    good(run_of(folder / "odd", on_odd + further("14")));
    good(run_of(folder / "odd", four + further("16")));
    good(run_of(folder / "one", further("16")));
    CHECK(column(folder / "odd", "params_hash") == column(folder / "one", "params_hash"));
    CHECK(column(folder / "odd", "step").back() == "16");
    good(run_of(folder / "again", Arguments{"--record", recording("c")}));
    CHECK(good({"bisect", recording("a"), recording("c")}).out.starts_with("same: all "));
}

TEST_CASE("a dry run shows how axes lie on islands") {
    auto dry = [](Arguments const& more) {
        return good(Arguments{"train", "--dry-run", "--plan.lines=megatron tensor"} + more).out;
    };
    auto text = dry({"--mesh", "data=2,tensor=2", with_file(two_islands)});
    CHECK(
        line_of(text, "islands ") ==
        "islands     2 of 2 ranks, by examples/clusters/two-islands.toml: tensor lies within, data crosses");
    CHECK(line_of(text, "links ") ==
          "links       within an island 10 GB/s and 1 us, between islands 1.25 GB/s and 20 us");
    CHECK(line_of(text, "note ") == "");
    text = dry({"--mesh", "tensor=4", "--cluster", "threads:4", with_file(two_islands)});
    CHECK(line_of(text, "islands ").ends_with("tensor crosses"));
    CHECK(line_of(text, "note ") ==
          "note        tensor = 4 crosses islands (2 of 2 ranks): a size of 2 would not");
    CHECK(line_of(dry({"--mesh", "data=2,tensor=2"}), "islands ") ==
          "islands     1 of 4 ranks: tensor and data lie within");
    CHECK(line_of(dry({}), "islands ") == "");
    text = dry(
        {"--mesh", "data=72,tensor=8", "--data.batch=72", with_file("examples/clusters/gb200-nvl72.toml")});
    CHECK(
        line_of(text, "islands ") ==
        "islands     8 of 72 ranks, by examples/clusters/gb200-nvl72.toml: tensor lies within, data crosses");
    EnvironmentVariable const size("OMPI_COMM_WORLD_SIZE", "4"), rank("OMPI_COMM_WORLD_RANK", "0"),
        here("OMPI_COMM_WORLD_LOCAL_SIZE", "2");
    CHECK(line_of(dry({"--mesh", "data=2,tensor=2"}), "islands ") ==
          "islands     2 of 2 ranks, by hosts: tensor lies within, data crosses");
}

TEST_CASE("processes of one host are on one island") {
    ScratchFolder folder;
    auto const f = start_mpi(2, {small_run(folder / "a", {"--run.steps=1"})})->wait();
    CHECK(f.code == 0);
    CHECK(line_of(f.out, "islands ") == "islands 1 of 2 ranks: data lies within");
}

TEST_CASE("a cluster file that is missing, does not fit or says what is unknown is refused before anything") {
    ScratchFolder folder;
    auto const out = folder / "a";
    auto run = [&](std::string const& file, Arguments const& more = {}) {
        return small_run(out, Arguments{with_file(file), "--cluster", "threads:2"} + more);
    };
    refused(2, "run.cluster_file = \"no/such.toml\" (command line): ", run("no/such.toml"));
    refused(2,
            "plait: examples/clusters/two-islands.toml: island.devices: the islands have 4 in all, but the "
            "world has 2 ranks",
            run(two_islands));
    put_text(folder / "b.toml", "[[island]]\ndevises = 2\n");
    refused(2, "b.toml:2: unknown key island.devises: the nearest is island.devices",
            run((folder / "b.toml").string()));
    refused(2, "unknown key island.devises", run((folder / "b.toml").string(), {"--dry-run"}));
    CHECK_FALSE(std::filesystem::exists(out));
}

#endif
