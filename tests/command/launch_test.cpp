#ifdef PLAIT_COMMAND

#include "command.hpp"

namespace {

/// Standard error without what mpirun adds.
std::vector<std::string> told(std::string const& err) {
    std::vector<std::string> lines;
    for (auto const& line : lines_of(err))
        if (line.starts_with("plait")) lines.push_back(line);
    return lines;
}

/// All processes end with 2, and one of them says `message`.
void refused_by_all(std::string const& message, int ranks, std::vector<Arguments> const& programs,
                    std::vector<std::filesystem::path> const& folders = {}) {
    auto f = start_mpi(ranks, programs, folders)->wait();
    CAPTURE(f.out, f.err);
    CHECK(f.code == 2);
    auto lines = told(f.err);
    REQUIRE(lines.size() == 1);
    CHECK_THAT(lines[0], ContainsSubstring(message));
}

}  // namespace

TEST_CASE("a mesh that the world, the batch or the granularity cannot have is refused before anything") {
    ScratchFolder folder;
    auto out = folder / "a";
    auto run = [&](Arguments const& more) { return small_run(out, Arguments{"--data.batch=8"} + more); };
    refused(2, "plan.mesh = \"data=2\" (command line): has 2 ranks, but run.cluster = \"self\" has 1",
            run({"--mesh", "data=2"}));
    refused(2, "has 2 ranks, but run.cluster = \"threads:4\" has 4",
            run({"--mesh", "data=2", "--cluster", "threads:4"}));
    refused(2, "data.batch = 8 (command line): replica x data = 3", run({"--cluster", "threads:3"}));
    refused(2, "plan.micro_batches = 6 (command line): must be a multiple of replica x data = 4",
            run({"--cluster", "threads:4", "--data.batch=12", "--plan.micro_batches=6"}));
    refused(2, "no plan line divides anything along tensor",
            run({"--mesh", "tensor=2", "--cluster", "threads:2"}));
    refused(2, "powers of two, not data = 3",
            run({"--cluster", "threads:3", "--mesh", "data=3", "--bits", "layout", "--data.batch=24"}));
    refused(2, "plan.bits_granularity.data = 8 (default): replica x data = 16 is beyond it",
            run({"--cluster", "threads:16", "--bits", "layout", "--data.batch=16"}));
    refused(2, "data.batch = 12 (command line): plan.bits = \"layout\" cuts it",
            run({"--bits", "layout", "--data.batch=12"}));
    refused(2, "run.cluster = \"threads:x\"", run({"--cluster", "threads:x"}));
    refused(2, "it joins GPUs: use mpi", run({"--cluster", "nccl"}));
    refused(2, "GPUs are joined by nccl", run({"--cluster", "threads:2", "--run.device=cuda"}));
    refused(2, "GPUs compute in bf16 or f32", run({"--plan.compute=f64", "--run.device=cuda"}));
    refused(2, "is not in this version yet", run({"--cluster", "sim:gb200"}));
    CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("under a launcher of several processes another cluster is refused, and its variable named") {
    ScratchFolder folder;
    EnvironmentVariable const size("OMPI_COMM_WORLD_SIZE", "2");
    for (auto const* cluster : {"self", "threads:2"}) {
        auto run = small_run(folder / "a", {"--cluster", cluster});
        {
            EnvironmentVariable const rank("OMPI_COMM_WORLD_RANK", "0");
            refused(2, "OMPI_COMM_WORLD_SIZE says that 2 processes were started", run);
        }
        EnvironmentVariable const rank("OMPI_COMM_WORLD_RANK", "1");
        auto f = plait(run);
        CHECK(f.code == 2);
        CHECK(f.err.empty());
    }
    CHECK_FALSE(std::filesystem::exists(folder / "a"));
}

TEST_CASE("an MPI world of one trains as any run of one rank") {
    ScratchFolder folder;
    good(small_run(folder / "self"));
#ifdef PLAIT_HAS_MPI
    CHECK_THAT(good(small_run(folder / "mpi", {"--cluster", "mpi"})).out,
               ContainsSubstring("cluster mpi: 1 rank, as no launcher started this process"));
    CHECK(column(folder / "mpi", "params_hash") == column(folder / "self", "params_hash"));
#else
    refused(2, "this build has no MPI", small_run(folder / "mpi", {"--cluster", "mpi"}));
#endif
}

TEST_CASE("what all processes find wrong is told once; what one does, with its rank") {
    ScratchFolder folder;
    auto out = folder / "a";
    auto run = [&](Arguments const& more = {}) { return small_run(out, more); };
    refused_by_all("has 3 ranks, but run.cluster = \"mpi\" has 2", 2, {run({"--mesh", "data=3"})});
    refused_by_all("run.cluster = \"self\" (command line): OMPI_COMM_WORLD_SIZE", 2,
                   {run({"--cluster", "self"})});
    refused_by_all("there is no option --stpes", 2, {run({"--stpes=3"})});
    refused_by_all("plait: rank 1: --config=no/such.toml", 1, {run(), run({"--config", "no/such.toml"})});
    refused_by_all("plait: rank 1: plait train: there is no option --stpes", 1, {run(), run({"--stpes=3"})});
    refused_by_all("the ranks disagree on run.seed: rank 1 has 2, rank 0 1", 1,
                   {run(), run({"--run.seed=2"})});
    refused_by_all("the ranks disagree on the text: rank 1 has", 1, {run(), run({"--data.path=docs"})});
    CHECK_FALSE(std::filesystem::exists(out));
    auto holds_run = folder / "b";
    good(small_run(holds_run, {"--run.steps=1"}));
    refused_by_all("plait: rank 0: run.out", 2, {small_run(holds_run)});
}

TEST_CASE("files that are not the same on every host: a table of slots is refused, a trace is rank 0's") {
    ScratchFolder folder;
    auto const text = std::filesystem::path(SOURCE_DIR) / "examples" / "text";
    std::vector<std::filesystem::path> const hosts{folder / "0", folder / "1"};
    auto run = [&](char const* name, Arguments const& more) {
        return small_run(folder / name, Arguments{"--data.path=" + text.string(), "--mesh=pipeline=2",
                                                  "--plan.micro_batches=2", "--run.steps=3"} +
                                            more);
    };
    put_text(hosts[0] / "table.csv", "0F0,0F1,0B0,0W0,0B1,0W1\n1F0,1B0,1W0,1F1,1B1,1W1\n");
    put_text(hosts[1] / "table.csv", "0F0,0B0,0W0,0F1,0B1,0W1\n1F0,1B0,1W0,1F1,1B1,1W1\n");
    auto const table = run("a", {"--plan.schedule=csv:table.csv"});
    refused_by_all("the ranks disagree on the schedule: rank 1 has", 1, {table, table}, hosts);

    put_text(hosts[0] / "traces" / "note", "only here");
    auto const trace = run("b", {"--trace", "traces/t.json"});
    auto f = start_mpi(1, {trace, trace}, hosts)->wait();
    CAPTURE(f.out, f.err);
    CHECK(f.code == 0);
    CHECK_THAT(f.out, ContainsSubstring("trace traces/t.json: step 3, "));
    CHECK(std::filesystem::exists(hosts[0] / "traces" / "t.json"));
}

TEST_CASE("a dry run looks at rank 0 of the planned mesh, and starts no rank") {
    auto mesh = [](Arguments const& more) {
        auto f = good(Arguments{"train", "--dry-run", "--data.batch=16"} + more);
        for (auto const& line : lines_of(f.out))
            if (line.starts_with("mesh ")) return line.substr(line.find("replica"));
        return std::string();
    };
    CHECK(mesh({}) == "replica=1, data=1, pipeline=1, tensor=1: 1 rank");
    CHECK(mesh({"--mesh", "replica=2,data=4"}) == "replica=2, data=4, pipeline=1, tensor=1: 8 ranks");
    CHECK(mesh({"--cluster", "threads:4"}) == "replica=1, data=4, pipeline=1, tensor=1: 4 ranks");
    CHECK(mesh({"--cluster", "mpi", "--mesh", "data=2"}) ==
          "replica=1, data=2, pipeline=1, tensor=1: 2 ranks");
    refused(2, "has 2 ranks, but run.cluster = \"threads:4\" has 4",
            {"train", "--dry-run", "--cluster", "threads:4", "--mesh", "data=2"});
    auto dump = good({"train", "--dump", "schedule", "--mesh", "data=4", "--plan.micro_batches=8"}).out;
    CHECK_THAT(dump, ContainsSubstring("4 ranks"));
    CHECK_THAT(dump, ContainsSubstring("micro-batch 1"));
    CHECK(dump.find("micro-batch 2") == dump.npos);
}

#endif
