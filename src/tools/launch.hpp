#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "config.hpp"
#include "plait/comm/communicator.hpp"
#include "plait/comm/mpi.hpp"

namespace plait::tools {

/// What a launcher of processes, mpirun or srun, told this one.
struct Launcher {
    int processes = 1, rank = 0;
    int here = 1;          // processes on this machine, where the launcher says so, else all
    std::string variable;  // that says how many, "OMPI_COMM_WORLD_SIZE"; empty without a launcher
    int rank_here = 0;     // this one among those on this machine

    /// Whether MPI can join them.
    bool over_mpi() const { return !variable.empty() && variable != "WORLD_SIZE"; }
};

/// A variable of the environment, or null.
using Environment = std::function<char const*(char const* name)>;

/// Reads Open MPI's variables, or else Slurm's where srun started a step of tasks (what sbatch starts is one
/// process, whatever the allocation has), or else WORLD_SIZE, RANK, LOCAL_WORLD_SIZE and LOCAL_RANK. Throws
/// UsageError for one that is no number.
Launcher find_launcher(Environment const& environment);
Launcher find_launcher();
/// Whether this process speaks for all that a launcher started, before they can talk to each other.
bool is_first_process();

/// The world that run.cluster and the launcher make.
struct World {
    enum class Kind { self, threads, mpi, nccl };
    Kind kind = Kind::self;
    int ranks = 1;
    int here = 1;                    // ranks on this machine
    std::vector<std::string> notes;  // lines for the console: "cluster mpi: 2 ranks by OMPI_COMM_WORLD_SIZE"

    /// Whether ranks are processes of their own.
    bool of_processes() const { return kind == Kind::mpi || kind == Kind::nccl; }
};

/// Sets run.cluster to mpi, or on GPUs to nccl, where a launcher started several processes and it was not
/// given. Throws UsageError where it was given and cannot join them on run.device.
World plan_world(Config& config, Launcher const& launcher);

/// Ranks of the world that --dry-run and --dump look at: those of plan.mesh where neither run.cluster nor a
/// launcher says.
std::int64_t planned_ranks(Config const& config, World const& world);

/// Threads of one rank: run.threads, or else this machine's cores divided among its ranks, at least 1. Cores
/// that the launcher took away are not divided again.
int workers_of_rank(Config const& config, World const& world);

/// Runs f on `ranks` threads. Throws what a rank throws, naming it unless all did alike.
void run_threads(int ranks, std::function<void(Communicator&)> const& f);

/// Calls f with the world of all processes, as run_mpi does.
using Join = std::function<void(std::function<void(Communicator&)> const& f)>;

/// Runs f with the world of all processes and gives the exit code. A failure is told on standard error
/// before any process ends: by the rank that failed, by rank 0 when all failed alike, by one that waits where
/// others are missing. Throws UsageError where there is no world to join.
int run_processes(Launcher const& launcher, std::function<void(Communicator&)> const& f, Join const& join);
/// The same over MPI.
int run_processes(Launcher const& launcher, std::function<void(Communicator&)> const& f,
                  MpiOptions options = {});

/// Throws AgreedUsageError where MPI or NCCL has not joined all processes that the launcher started.
void check_world(Launcher const& launcher, Communicator const& world);

/// Prints at most three lines about a failure to `out`, unless that is null, and gives the exit code: 2 for a
/// UsageError, else 1.
int report_failure(std::exception const& failure, std::FILE* out);

}  // namespace plait::tools
