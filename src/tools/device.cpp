#include "device.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "plait/cpu/backend.hpp"
#include "plait/cuda/nccl.hpp"
#include "plait/train/compile.hpp"
#include "plait/train/progress.hpp"

namespace plait::tools {

std::string Device::text(bool many_ranks) const {
    if (gpu) return fmt::format("cuda, {}{}", cuda::description(*gpu), many_ranks ? " on rank 0" : "");
    return fmt::format("cpu, {} {}{}, {} kernels", backend->workers(),
                       backend->workers() == 1 ? "thread" : "threads", many_ranks ? " a rank" : "",
                       cpu::name_of(cpu::best_isa()));
}

void plan_device(Config& config, Launcher const& launcher, int gpus) {
    auto& origin = config.origins["run.device"];
    auto const& cluster = config.run.cluster;
    bool const one = cluster == "self" || cluster == "threads:1";
    bool const joined = launcher.processes > 1 || cluster == "nccl";
    bool const for_cpus =
        config.plan.compute == "f64" || (!one && cluster != "nccl") || (joined && !cuda::nccl_available());
    if (origin != "default" || gpus == 0 || for_cpus) return;
    config.run.device = "cuda";
    origin = "a GPU was found";
}

std::shared_ptr<Backend> planned_backend(Config const& config, World const& world) {
    if (config.run.device == "cuda") return cuda::planning_backend();
    return cpu_backend(workers_of_rank(config, world));
}

Device take_device(Config const& config, World const& world, Launcher const& launcher, bool sync) {
    if (config.run.device != "cuda") return {cpu_backend(workers_of_rank(config, world))};
    // What one rank finds fastest another may not, and copies of one value must have the same bits. Launchers
    // may show each process one GPU only.
    bool const layout = config.plan.bits == "layout";
    auto gpu = cuda::open_gpu({.device = launcher.rank_here % std::max(cuda::gpu_count(), 1),
                               .fixed_algorithms = layout || world.ranks > 1,
                               .library_attention = !layout});
    return {cuda::make_backend(gpu, {.sync = sync}), gpu};
}

namespace {

/// What cuBLASLt, cuDNN and CUDA's graphs take besides, and NCCL for the world and every axis of more than
/// one rank; assumed.
std::int64_t libraries_bytes(Mesh const& mesh) {
    std::int64_t bytes = std::int64_t{512} << 20;
    constexpr std::int64_t communicator = std::int64_t{160} << 20;
    if (mesh.ranks() > 1) bytes += communicator;
    for (auto const* axis : {"replica", "data", "pipeline", "tensor"})
        if (mesh.axis(axis).size > 1) bytes += communicator;
    return bytes;
}

/// What a rank keeps on its GPU; copies of the state for checkpoints lie in the host's memory.
std::int64_t gpu_bytes(Programs const& programs) { return programs.arena_bytes() + programs.sample_bytes; }

std::string bytes(std::int64_t n) { return bytes_text(static_cast<double>(n)); }

/// Changes of the plan, as arguments, that bring this rank to at most `limit` bytes.
std::vector<std::string> fitting(Config const& config, Mesh const& mesh, std::int64_t limit) {
    struct Change {
        std::int64_t times;  // as many micro-batches
        bool recompute;
        std::int64_t zero;
    };
    auto const ranks = mesh.axis("data").size * mesh.axis("replica").size;
    std::vector<Change> changes;
    for (std::int64_t zero = config.plan.zero; zero <= (ranks > 1 ? 3 : config.plan.zero); ++zero)
        for (std::int64_t times : {1, 2, 4, 8})
            for (bool recompute : {false, true}) changes.push_back({times, recompute, zero});
    std::vector<std::string> fits;
    for (auto const& change : changes) {
        auto tried = config;
        tried.plan.micro_batches *= change.times;
        tried.plan.zero = change.zero;
        std::string text;
        if (change.times > 1) text += fmt::format(" --plan.micro_batches={}", tried.plan.micro_batches);
        if (change.zero != config.plan.zero) text += fmt::format(" --plan.zero={}", change.zero);
        if (change.recompute) {
            if (!config.plan.recompute.list.empty()) continue;
            tried.plan.recompute.list = {"blocks.*"};
            text += " --plan.recompute=blocks.*";
        }
        if (text.empty() || config.data.batch % tried.plan.micro_batches != 0) continue;
        try {
            auto const takes = gpu_bytes(compile_programs(tried, mesh, cuda::planning_backend()));
            if (takes <= limit) fits.push_back(fmt::format("{} ({})", text.substr(1), bytes(takes)));
        } catch (UsageError const&) {}  // a plan that cannot be
        if (fits.size() == 3) break;
    }
    return fits;
}

}  // namespace

void check_gpu_memory(Config const& config, Programs const& programs, std::int64_t free) {
    auto const libraries = libraries_bytes(programs.plan.mesh());
    auto const wants = gpu_bytes(programs), limit = free - libraries;
    if (wants <= limit) return;
    auto const t = programs.train.memory();
    auto const fits = fitting(config, programs.plan.mesh(), limit);
    fail<UsageError>(
        "the run needs {} of a GPU's memory, and {} are free, {} of which libraries may take\n"
        "of it: weights {}, optimizer {}, gradients {}, activations {}, stash {}, workspace {}, other {}\n"
        "what would fit: {}",
        bytes(wants), bytes(free), bytes(libraries), bytes(t.weights), bytes(t.optimizer), bytes(t.gradients),
        bytes(t.activations), bytes(t.stash), bytes(t.workspace),
        bytes(wants - t.weights - t.optimizer - t.gradients - t.activations - t.stash - t.workspace),
        fits.empty() ? "a smaller model or data.batch, or more GPUs"
                     : fmt::format("{}", fmt::join(fits, ", or ")));
}

}  // namespace plait::tools
