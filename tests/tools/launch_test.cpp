#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/launch.hpp"

#include "catch.hpp"
#include "plait/parallel/mesh.hpp"
#include "plait/train/agreement.hpp"
#include "scratch.hpp"

#include <chrono>
#include <cstdlib>
#include <map>
#include <thread>

using namespace plait;
using namespace plait::tools;

namespace {

using Variables = std::map<std::string, std::string>;

Launcher launcher_of(Variables const& variables) {
    return find_launcher([&](char const* name) {
        auto it = variables.find(name);
        return it == variables.end() ? nullptr : it->second.c_str();
    });
}

std::string error_of(Variables const& variables) {
    return message_of<UsageError>([&] { launcher_of(variables); });
}

Config with_cluster(std::string const& cluster) {
    if (cluster.empty()) return load_config("", {});
    return load_config("", {{"run.cluster", cluster, "--cluster"}});
}

}  // namespace

TEST_CASE("a launcher's variables say how many processes there are, Open MPI's before Slurm's") {
    CHECK(launcher_of({}).processes == 1);
    CHECK(launcher_of({}).variable.empty());
    Variables const ompi{{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}};
    auto l = launcher_of(ompi);
    CHECK((l.processes == 4 && l.rank == 3 && l.here == 4));
    CHECK(l.variable == "OMPI_COMM_WORLD_SIZE");
    Variables both = ompi;
    both.insert({{"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}, {"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "5"}});
    l = launcher_of(both);
    CHECK((l.processes == 4 && l.rank == 3 && l.here == 2));

    Variables slurm{{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "5"}, {"SLURM_STEP_ID", "0"}};
    l = launcher_of(slurm);
    CHECK((l.processes == 8 && l.rank == 5 && l.variable == "SLURM_NTASKS"));
    slurm["SLURM_STEP_NUM_TASKS"] = "6";
    l = launcher_of(slurm);
    CHECK((l.processes == 6 && l.variable == "SLURM_STEP_NUM_TASKS"));
    // An allocation whose script runs one process.
    CHECK(launcher_of({{"SLURM_NTASKS", "8"}}).processes == 1);
    CHECK(launcher_of({{"OMPI_COMM_WORLD_SIZE", "8"}}).processes == 1);

    CHECK(contains(error_of({{"OMPI_COMM_WORLD_SIZE", "two"}, {"OMPI_COMM_WORLD_RANK", "0"}}),
                   "OMPI_COMM_WORLD_SIZE=two"));
    auto step = [](std::string const& rank) {
        return Variables{{"SLURM_NTASKS", "2"}, {"SLURM_PROCID", rank}, {"SLURM_STEP_ID", "3"}};
    };
    CHECK(contains(error_of(step("-1")), "SLURM_PROCID=-1"));
    CHECK(contains(error_of(step("2")), "SLURM_PROCID=2"));
}

TEST_CASE("what sbatch or salloc starts is one process, whatever the allocation has") {
    Variables const batch{{"SLURM_JOB_ID", "7"},
                          {"SLURM_NTASKS", "8"},
                          {"SLURM_PROCID", "0"},
                          {"SLURM_NODEID", "0"},
                          {"SLURM_TASKS_PER_NODE", "4(x2)"}};
    auto with_step = [&](char const* name, std::string const& id) {
        auto v = batch;
        v[name] = id;
        return launcher_of(v);
    };
    CHECK(launcher_of(batch).processes == 1);
    CHECK(launcher_of(batch).variable.empty());
    // Slurm's numbers for the batch script, old and new, the interactive step and the external one.
    for (auto const* id : {"batch", "4294967291", "4294967294", "4294967290", "4294967292", "-5", ""}) {
        CAPTURE(id);
        CHECK(with_step("SLURM_STEP_ID", id).processes == 1);
    }
    auto const step = with_step("SLURM_STEPID", "12");
    CHECK((step.processes == 8 && step.here == 4 && step.variable == "SLURM_NTASKS"));
}

TEST_CASE("Slurm says how many tasks a node has") {
    auto here = [](Variables more, std::string const& tasks = "11") {
        more.insert({{"SLURM_STEP_NUM_TASKS", tasks}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_ID", "0"}});
        return launcher_of(more).here;
    };
    CHECK(here({}) == 11);
    for (auto [node, want] : {std::pair("0", 4), {"1", 4}, {"2", 3}}) {
        CAPTURE(node);
        CHECK(here({{"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"}, {"SLURM_NODEID", node}}) == want);
        CHECK(here({{"SLURM_TASKS_PER_NODE", "4(x2),3"}, {"SLURM_NODEID", node}}) == want);
    }
    // The allocation's count where the step has all of it; else the most that a node was asked to have.
    Variables const allocation{{"SLURM_TASKS_PER_NODE", "8(x4)"}, {"SLURM_NODEID", "1"}};
    CHECK(here(allocation) == 11);
    CHECK(here({{"SLURM_TASKS_PER_NODE", "8(x4)"}, {"SLURM_NTASKS_PER_NODE", "4"}}) == 4);
    CHECK(here({{"SLURM_NTASKS_PER_NODE", "16"}}) == 11);
    CHECK(here({{"SLURM_STEP_TASKS_PER_NODE", "11"}}) == 11);
    CHECK(here({{"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"}, {"SLURM_NODEID", "3"}}) == 11);
    for (auto const* text : {"4(x2", "4x2", "4(x0)", "0", "", "4,", "4(x2)3", "4(x999999999)"}) {
        Variables const wrong{{"SLURM_STEP_TASKS_PER_NODE", text},
                              {"SLURM_STEP_NUM_TASKS", "11"},
                              {"SLURM_PROCID", "0"},
                              {"SLURM_STEP_ID", "0"}};
        CHECK(contains(error_of(wrong), fmt::format("SLURM_STEP_TASKS_PER_NODE={}: Slurm writes", text)));
    }
}

// Hidden: tests/CMakeLists.txt starts it under mpirun, as MPI serves a process once.
TEST_CASE("a rank that hangs on a mesh of two axes is named, and by one survivor", "[.][mpi_hang]") {
    if (!mpi_available()) SKIP("built without MPI");
    auto const launcher = find_launcher();
    REQUIRE(launcher.processes == 4);
    auto const* name = std::getenv("PLAIT_TEST_FAILURE");  // "hang_3"
    REQUIRE(name);
    int const hangs = name[std::string_view(name).size() - 1] - '0';
    auto code = run_processes(launcher,
                              [&](Communicator& world) {
                                  Mesh const mesh(world, {{"data", 2}, {"tensor", 2}});
                                  // The others run into the limit together: two wait for the one that hangs,
                                  // one for one of these.
                                  world.barrier().wait();
                                  if (world.rank() == hangs)
                                      std::this_thread::sleep_for(std::chrono::seconds(4));
                                  std::vector<float> x(8);
                                  for (auto const* axis : {"data", "tensor"})
                                      mesh.along(axis)->all_reduce(std::span(x), Combine::sum).wait();
                              },
                              {.limit_seconds = 0.5});
    CHECK(code == 1);
}

TEST_CASE("several processes make an MPI world, unless run.cluster says otherwise, which is refused") {
    Launcher const two{2, 0, 2, "SLURM_NTASKS"};
    auto config = with_cluster("");
    auto world = plan_world(config, two);
    CHECK((world.kind == World::Kind::mpi && world.ranks == 2));
    CHECK(world.notes == std::vector<std::string>{"cluster mpi: 2 ranks by SLURM_NTASKS"});
    CHECK(config.run.cluster == "mpi");
    CHECK(config.origins.at("run.cluster") == "SLURM_NTASKS");
    config = with_cluster("mpi");
    CHECK(plan_world(config, two).ranks == 2);
    CHECK(config.origins.at("run.cluster") == "command line");
    for (auto const* cluster : {"self", "threads:1", "threads:2"}) {
        config = with_cluster(cluster);
        auto message = message_of<UsageError>([&] { plan_world(config, two); });
        CHECK(contains(message, "run.cluster = \"" + std::string(cluster) + "\" (command line)"));
        CHECK(contains(message, "SLURM_NTASKS says that 2 processes"));
    }
}

TEST_CASE("one process is a world of its own, of threads, or an MPI world of one that says so") {
    auto world_of = [](std::string const& cluster, Launcher const& launcher = {}) {
        auto config = with_cluster(cluster);
        return plan_world(config, launcher);
    };
    CHECK((world_of("").kind == World::Kind::self && world_of("").ranks == 1));
    CHECK(world_of("self", {1, 0, 1, "OMPI_COMM_WORLD_SIZE"}).kind == World::Kind::self);
    CHECK(world_of("threads:1").kind == World::Kind::self);
    auto four = world_of("threads:4");
    CHECK((four.kind == World::Kind::threads && four.ranks == 4 && four.here == 4 && four.notes.empty()));
    auto alone = world_of("mpi");
    CHECK((alone.kind == World::Kind::mpi && alone.ranks == 1));
    REQUIRE(alone.notes.size() == 1);
    CHECK(contains(alone.notes[0], "no launcher started this process"));
    CHECK(contains(world_of("mpi", {1, 0, 1, "OMPI_COMM_WORLD_SIZE"}).notes[0],
                   "1 rank by OMPI_COMM_WORLD_SIZE"));
}

TEST_CASE("GPUs of several processes are joined by NCCL, which any launcher starts") {
    auto world_of = [](std::string const& device, std::string const& cluster, Launcher const& launcher) {
        auto config = with_cluster(cluster);
        config.run.device = device;
        return plan_world(config, launcher);
    };
    Launcher const by_mpi{2, 1, 2, "OMPI_COMM_WORLD_SIZE", 1}, by_hand{4, 0, 4, "WORLD_SIZE"};
    CHECK((by_mpi.over_mpi() && !by_hand.over_mpi() && !Launcher{}.over_mpi()));
    auto world = world_of("cuda", "", by_mpi);
    CHECK((world.kind == World::Kind::nccl && world.ranks == 2 && world.of_processes()));
    CHECK(world.notes == std::vector<std::string>{"cluster nccl: 2 ranks by OMPI_COMM_WORLD_SIZE"});
    CHECK(world_of("cuda", "nccl", by_hand).ranks == 4);
    CHECK(world_of("cuda", "self", {}).kind == World::Kind::self);
    auto refused = [&](std::string const& device, std::string const& cluster, Launcher const& launcher) {
        return message_of<UsageError>([&] { world_of(device, cluster, launcher); });
    };
    CHECK(contains(refused("cuda", "threads:2", {}), "GPUs are joined by nccl"));
    CHECK(contains(refused("cuda", "mpi", by_mpi), "GPUs are joined by nccl"));
    CHECK(contains(refused("cuda", "self", by_mpi), "2 processes were started: use nccl"));
    CHECK(contains(refused("cpu", "nccl", by_mpi), "it joins GPUs: use mpi"));
    CHECK(contains(refused("cpu", "", by_hand), "on CPUs start them by mpirun"));

    auto const found =
        launcher_of({{"WORLD_SIZE", "8"}, {"RANK", "5"}, {"LOCAL_WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}});
    CHECK((found.processes == 8 && found.rank == 5 && found.here == 4 && found.rank_here == 1));
    CHECK(launcher_of({{"WORLD_SIZE", "8"}, {"RANK", "5"}}).rank_here == 5);
    CHECK(launcher_of(
              {{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "5"}, {"SLURM_STEP_ID", "0"}, {"SLURM_LOCALID", "3"}})
              .rank_here == 3);
}

TEST_CASE("a dry run looks at the mesh that is given, or at the world") {
    auto ranks = [](std::vector<Override> const& overrides, Launcher const& launcher = {}) {
        auto config = load_config("", overrides);
        auto world = plan_world(config, launcher);
        return planned_ranks(config, world);
    };
    Override const mesh{"plan.mesh", "data=4", "--mesh"}, threads{"run.cluster", "threads:2", "--cluster"},
        mpi{"run.cluster", "mpi", "--cluster"};
    CHECK(ranks({}) == 1);
    CHECK(ranks({mesh}) == 4);
    CHECK(ranks({threads}) == 2);
    CHECK(ranks({threads, mesh}) == 2);
    CHECK(ranks({mpi, mesh}) == 4);
    CHECK(ranks({mesh}, {2, 0, 2, "SLURM_NTASKS"}) == 2);
}

TEST_CASE("cores are divided among the ranks of a machine, and none gets less than one") {
    auto config = load_config("", {});
    auto workers = [&](int ranks) {
        return workers_of_rank(config, {World::Kind::threads, ranks, ranks, {}});
    };
    auto const all = workers(1);
    CHECK(all >= 1);
    CHECK(workers(2) == std::max(1, all / 2));
    CHECK(workers(10 * all) == 1);
    config.run.threads = 3;
    CHECK(workers(2) == 3);
}

TEST_CASE("what all thread ranks throw alike is thrown without a rank, what one throws with its rank") {
    CHECK(message_of<UsageError>([] {
              run_threads(
                  3, [](Communicator& world) { together(world, [] { throw UsageError("no such file"); }); });
          }) == "no such file");
    CHECK(message_of<Error>([] {
              run_threads(3, [](Communicator& world) {
                  together(world, [&] { check(world.rank() != 1, "no more disk"); });
              });
          }) == "rank 1: no more disk");
    CHECK(message_of<Error>([] {
              run_threads(3, [](Communicator& world) {
                  check(world.rank() != 2, "no more memory");
                  world.barrier().wait();
              });
          }) == "rank 2: no more memory");
    int sum = 0;
    run_threads(1, [&](Communicator& world) { sum += world.size(); });
    CHECK(sum == 1);
}

TEST_CASE("a failure takes at most three lines, and usage errors exit with 2") {
    auto report = [](std::exception const& e) {
        std::FILE* out = std::tmpfile();
        int code = report_failure(e, out);
        std::string text(static_cast<std::size_t>(std::ftell(out)), '\0');
        std::rewind(out);
        CHECK(std::fread(text.data(), 1, text.size(), out) == text.size());
        std::fclose(out);
        return std::to_string(code) + " " + text;
    };
    CHECK(report(UsageError("a")) == "2 plait: a\n");
    CHECK(report(ShapeError("a\nb\nc\nd\ne")) == "2 plait: a\nb\nc\n");
    CHECK(report(Error("plait train: x")) == "1 plait train: x\n");
    CHECK(report(std::bad_alloc()) == "1 plait: std::bad_alloc\n");
    CHECK(report_failure(UsageError("told by another process"), nullptr) == 2);
}

#endif
