#include "launch.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <vector>

#include "plait/comm/threads.hpp"
#include "plait/train/agreement.hpp"

namespace plait::tools {
namespace {

std::optional<int> number_in(Environment const& environment, char const* name, int least) {
    auto const* text = environment(name);
    if (!text) return {};
    std::string_view const t = text;
    int n = 0;
    auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), n);
    check<UsageError>(error == std::errc{} && end == t.data() + t.size() && n >= least,
                      "the environment has {}={}: a launcher sets it to a number from {}", name, t, least);
    return n;
}

std::string ranks_text(int n) { return fmt::format("{} {}", n, n == 1 ? "rank" : "ranks"); }

/// Cores that this process may use, and those of the machine.
std::pair<int, int> cores() {
    auto const all = std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return {all, all};
    return {std::max(1, CPU_COUNT(&set)), all};
}

/// Whether srun started this process as a task of a step. In a batch script or an interactive shell Slurm
/// sets SLURM_NTASKS and SLURM_PROCID too; such a step has no id, a name, or one of the highest 32-bit
/// numbers.
bool in_slurm_step(Environment const& environment) {
    constexpr std::uint32_t first_special = 0xfffffff0;
    for (auto const* name : {"SLURM_STEP_ID", "SLURM_STEPID"}) {
        auto const* text = environment(name);
        if (!text) continue;
        std::string_view const t = text;
        std::uint32_t id = 0;
        auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), id);
        return error == std::errc{} && end == t.data() + t.size() && id < first_special;
    }
    return false;
}

/// The tasks of each node in Slurm's "4(x2),3": 4, 4, 3. Nothing for another text.
std::optional<std::vector<int>> tasks_of_nodes(std::string_view text) {
    std::vector<int> tasks;
    auto const* at = text.data();
    auto const* const end = at + text.size();
    auto number = [&](int& n) {
        auto [next, error] = std::from_chars(at, end, n);
        at = next;
        return error == std::errc{} && n >= 1;
    };
    auto skip = [&](std::string_view word) {
        bool const there = std::string_view(at, static_cast<std::size_t>(end - at)).starts_with(word);
        if (there) at += word.size();
        return there;
    };
    constexpr std::size_t most = 1 << 20;
    do {
        int n = 0, times = 1;
        if (!number(n)) return {};
        if (skip("(x") && !(number(times) && skip(")"))) return {};
        if (tasks.size() + static_cast<std::size_t>(times) > most) return {};
        tasks.insert(tasks.end(), static_cast<std::size_t>(times), n);
    } while (skip(","));
    return at == end ? std::optional(tasks) : std::nullopt;
}

/// Tasks of a step of `tasks` on this node, where Slurm says so.
std::optional<int> slurm_tasks_here(Environment const& environment, int tasks) {
    auto const node = number_in(environment, "SLURM_NODEID", 0);
    // The last are the allocation's, which count where the step has all of it.
    for (auto const* name : {"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"}) {
        auto const* text = environment(name);
        if (!text) continue;
        auto const all = tasks_of_nodes(text);
        check<UsageError>(all.has_value(), "the environment has {}={}: Slurm writes it like 4(x2),3", name,
                          text);
        if (std::accumulate(all->begin(), all->end(), 0) != tasks) continue;
        auto const at = static_cast<std::size_t>(node.value_or(0));
        if (at < all->size() && (node || all->size() == 1)) return (*all)[at];
    }
    auto const most = number_in(environment, "SLURM_NTASKS_PER_NODE", 1);
    return most ? std::optional(std::min(*most, tasks)) : std::nullopt;
}

}  // namespace

Launcher find_launcher(Environment const& environment) {
    struct Variables {
        char const *processes, *rank, *here, *rank_here;  // here: null where Slurm says it otherwise
    };
    constexpr Variables known[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK",
                                    "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
                                   {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", nullptr, "SLURM_LOCALID"},
                                   {"SLURM_NTASKS", "SLURM_PROCID", nullptr, "SLURM_LOCALID"},
                                   {"WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"}};
    for (auto const& v : known) {
        if (!v.here && !in_slurm_step(environment)) continue;
        auto const processes = number_in(environment, v.processes, 1);
        auto const rank = number_in(environment, v.rank, 0);
        if (!processes || !rank) continue;
        check<UsageError>(*rank < *processes, "the environment has {}={} and {}={}: a rank below it", v.rank,
                          *rank, v.processes, *processes);
        auto const here =
            (v.here ? number_in(environment, v.here, 1) : slurm_tasks_here(environment, *processes))
                .value_or(*processes);
        auto const rank_here = number_in(environment, v.rank_here, 0);
        return {*processes, *rank, here, v.processes, rank_here.value_or(*rank % here)};
    }
    return {};
}

Launcher find_launcher() {
    return find_launcher([](char const* name) { return std::getenv(name); });
}

bool is_first_process() {
    try {
        return find_launcher().rank == 0;
    } catch (UsageError const&) {
        return true;
    }
}

World plan_world(Config& config, Launcher const& launcher) {
    auto& cluster = config.run.cluster;
    auto& origin = config.origins["run.cluster"];
    bool const gpus = config.run.device == "cuda", given = origin != "default";
    std::string const joins = gpus ? "nccl" : "mpi";
    auto const kind = gpus ? World::Kind::nccl : World::Kind::mpi;
    check<UsageError>(!gpus || !given || cluster == "nccl" || cluster == "self" || cluster == "threads:1",
                      "run.cluster = {} ({}): GPUs are joined by nccl: use that, or run.device = \"cpu\"",
                      value_text(cluster), origin);
    check<UsageError>(gpus || cluster != "nccl",
                      "run.cluster = \"nccl\" ({}): it joins GPUs: use mpi, or run.device = \"cuda\"",
                      origin);
    World world;
    if (launcher.processes > 1) {
        check<UsageError>(!given || cluster == joins,
                          "run.cluster = {} ({}): {} says that {} processes were started: use {}, or unset "
                          "the variable where this one is alone",
                          value_text(cluster), origin, launcher.variable, launcher.processes, joins);
        check<UsageError>(gpus || launcher.over_mpi(),
                          "WORLD_SIZE says that {} processes were started: on CPUs start them by mpirun, or "
                          "unset it where this one is alone",
                          launcher.processes);
        if (!given) origin = launcher.variable;
        cluster = joins;
        world = {kind, launcher.processes, launcher.here, {}};
        world.notes.push_back(
            fmt::format("cluster {}: {} by {}", joins, ranks_text(world.ranks), launcher.variable));
    } else if (cluster == joins) {
        world.kind = kind;
        world.notes.push_back(
            launcher.variable.empty()
                ? fmt::format("note    cluster {}: 1 rank, as no launcher started this process: "
                              "mpirun -n 2 plait train ... starts 2",
                              joins)
                : fmt::format("cluster {}: 1 rank by {}", joins, launcher.variable));
    } else if (auto n = threads_of(cluster); n && *n > 1) {
        world = {World::Kind::threads, *n, *n, {}};
    }
    return world;
}

std::int64_t planned_ranks(Config const& config, World const& world) {
    bool const told = config.origins.at("run.cluster") != "default";
    bool const unknown = world.of_processes() && world.ranks == 1;
    return told && !unknown ? world.ranks : ranks_of_mesh(config);
}

int workers_of_rank(Config const& config, World const& world) {
    if (config.run.threads > 0) return static_cast<int>(config.run.threads);
    auto const [mine, all] = cores();
    bool const bound = world.kind == World::Kind::mpi && mine < all;
    return bound ? mine : std::max(1, mine / world.here);
}

void run_threads(int ranks, std::function<void(Communicator&)> const& f) {
    std::exception_ptr agreed;
    run_ranks(ranks, [&](Communicator& world) {
        auto keep = [&] {
            if (world.rank() == 0) agreed = std::current_exception();
        };
        try {
            f(world);
        } catch (AgreedUsageError const&) {
            keep();
        } catch (AgreedError const&) {
            keep();
        }
    });
    if (agreed) std::rethrow_exception(agreed);
}

void check_world(Launcher const& launcher, Communicator const& world) {
    check<AgreedUsageError>(world.size() == launcher.processes,
                            "{} says that {} processes were started, and {} were joined: start them by the "
                            "mpirun of this MPI, or srun --mpi=pmix",
                            launcher.variable, launcher.processes, world.size());
}

int run_processes(Launcher const& launcher, std::function<void(Communicator&)> const& f, Join const& join) {
    int code = 0;
    auto tell = [&](std::exception const& e, bool speaks, std::string const& who = "") {
        bool const misused = dynamic_cast<UsageError const*>(&e) != nullptr;
        std::fflush(stdout);
        auto const text = who + e.what();
        auto* out = speaks ? stderr : nullptr;
        code = misused ? report_failure(UsageError(text), out) : report_failure(Error(text), out);
    };
    // Where MPI did not join what the launcher started, every process is a rank 0.
    bool const first = launcher.rank == 0;
    auto run = [&](Communicator& world) {
        try {
            f(world);
        } catch (AgreedUsageError const& e) {
            tell(e, world.rank() == 0 && first);
        } catch (AgreedError const& e) {
            tell(e, world.rank() == 0 && first);
        } catch (CommunicationError const& e) {
            tell(e, world.rank() == e.witness);
            throw;
        } catch (std::exception const& e) {
            tell(e, true, world.size() > 1 ? fmt::format("rank {}: ", world.rank()) : "");
            throw;
        }
    };
    try {
        join(run);
    } catch (std::exception const&) {
        if (code == 0) throw;  // no rank's failure, which has been told: there is no world
    }
    return code;
}

int run_processes(Launcher const& launcher, std::function<void(Communicator&)> const& f, MpiOptions options) {
    return run_processes(launcher, f,
                         Join([&](std::function<void(Communicator&)> const& g) { run_mpi(g, options); }));
}

int report_failure(std::exception const& failure, std::FILE* out) {
    std::string text = fmt::format("plait: {}", failure.what());
    if (text.starts_with("plait: plait")) text.erase(0, 7);
    std::size_t end = 0;
    for (int lines = 0; lines < 3 && end != std::string::npos; ++lines)
        end = text.find('\n', end + (lines > 0));
    if (out) fmt::print(out, "{}\n", text.substr(0, end));
    return dynamic_cast<UsageError const*>(&failure) ? 2 : 1;
}

}  // namespace plait::tools
