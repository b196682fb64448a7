#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "claims.hpp"
#include "commands.hpp"
#include "device.hpp"
#include "inspect.hpp"
#include "launch.hpp"
#include "memory_check.hpp"
#include "plait/comm/mpi.hpp"
#include "plait/cuda/nccl.hpp"
#include "rank_places.hpp"
#include "samples.hpp"
#include "trainer.hpp"

namespace plait::tools {
namespace {

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
    fmt::print(format, std::forward<Args>(args)...);
    fmt::print("\n");
    std::fflush(stdout);
}

std::string count(std::int64_t n) { return count_text(static_cast<double>(n)); }

void describe(Config const& config, World const& cluster, Programs const& programs, RankPlaces const& places,
              Device const& device) {
    auto const& m = config.model;
    say("model   {}: {} layers, dim {}, {} heads; {} parameters", m.family, m.layers, m.dim, m.heads,
        count(count_parameters(*programs.state)));
    if (auto const rows = padded_vocab(config); rows != m.vocab)
        say("note    vocabulary {}, padded to {}", m.vocab, rows);
    say("batch   {} x {} tokens, micro-batches: {}, compute {}", config.data.batch, config.data.seq,
        config.plan.micro_batches, config.plan.compute);
    bool const many = cluster.ranks > 1;
    if (many) say("layout  {} ranks: {}", cluster.ranks, layout_of(config, programs.plan.mesh()));
    if (many) say("islands {}", places.text());
    say("device  {}; {} of memory planned{}", device.text(many),
        bytes_text(static_cast<double>(programs.arena_bytes())),
        !many                                            ? ""
        : programs.plan.mesh().axis("pipeline").size > 1 ? " for rank 0"
                                                         : " for each");
}

/// Where --trace writes, which the first rank does: a file beside others that can be made.
TraceRequest trace_of(Config const& config, TrainArguments const& arguments) {
    namespace fs = std::filesystem;
    if (arguments.trace->empty())
        return {(fs::path(config.run.out) / "trace.json").string(), arguments.trace_steps};
    fs::path const file = *arguments.trace, parent = file.has_parent_path() ? file.parent_path() : ".";
    std::error_code none;
    check<UsageError>(fs::is_directory(parent, none), "--trace {}: there is no folder {}: make it",
                      file.string(), parent.string());
    check<UsageError>(!fs::is_directory(file, none), "--trace {}: is a folder: name a file", file.string());
    check<UsageError>(::access(parent.c_str(), W_OK) == 0, "--trace {}: {} cannot be written", file.string(),
                      parent.string());
    return {file.string(), arguments.trace_steps};
}

/// One rank of a run. All make the same calls; the first one alone looks after the folder and speaks.
void train_rank(Config const& config, World const& cluster, TrainArguments const& arguments, Process& process,
                Device const& device, Communicator& world) {
    bool const first = world.rank() == 0, resume = arguments.resume, records = !arguments.record.empty();
    std::vector<std::string> watch;
    if (records) watch = arguments.watch.empty() ? std::vector<std::string>{"**"} : arguments.watch;
    MeshSizes sizes;
    RankPlaces places;
    std::optional<RunFolder> folder;
    auto claims = claims_of(config);
    claims.emplace_back("--trace", arguments.trace ? fmt::format("{} steps", arguments.trace_steps) : "off");
    agree(world, claims);  // before anything that another configuration would not do
    auto const hosts = hosts_of(cluster, world);
    together(world, [&] {
        sizes = mesh_of(config, world.size());
        places = place_world(config, sizes, hosts);
    });
    std::string islands;
    for (int island : places.islands) islands += fmt::format("{} ", island);
    agree(world, {{"the islands", islands}});
    std::optional<TraceRequest> trace;
    if (arguments.trace) trace = TraceRequest{"", arguments.trace_steps};
    together(world, [&] {
        if (first && trace) trace = trace_of(config, arguments);
        if (first) folder.emplace(config, resume);
    });
    auto const checkpoint = share_checkpoint(world, first ? folder->checkpoint() : std::nullopt);
    auto const done = checkpoint ? checkpoint->manifest.step : 0;
    auto tell_notes = [&] {
        if (!first) return;
        for (auto const& note : folder->notes()) say("note    {}", note);
    };
    if (checkpoint && done >= config.run.steps) {
        tell_notes();
        if (first)
            say("finished: {} has done {} of {} steps; a larger run.steps goes on", config.run.out, done,
                config.run.steps);
        return;
    }
    together(world, [&] {
        auto const& corpus = process.corpus(config);
        if (first) say("text    {}", corpus.summary());
        // A text that is too short is said before anything that is too large.
        Loader(corpus.train_tokens(), corpus.train, config.data.batch, config.data.seq, 1);
        if (first && corpus.validation.empty()) say("note    no validation: its part of the text is empty");
    });
    Mesh const mesh(world, sizes, places.order);
    std::optional<Programs> programs;
    std::unique_ptr<Sampler> sampler;
    together(world, [&] {
        programs = compile_programs(config, mesh, device.backend, watch);
        sampler = plan_sampler(config, *programs);
        if (sampler) sampler->take(codec_of(config, process.corpus(config)));
    });
    agree(world, claims_of(config, *programs, process.text()));
    auto const memory = memory_of_ranks(world, *programs, hosts);
    together(world, [&] {
        if (device.gpu) check_gpu_memory(config, *programs, cuda::free_bytes(*device.gpu));
        else check_memory(memory, machine_memory(), config.plan.schedule);
    });
    Trainer trainer(config, process, *programs, world, first ? &*folder : nullptr, checkpoint);
    std::optional<RecordingWriter> writer;
    together(world, [&] {
        if (!first) return;
        folder->open(world.size());
        keep_tokenizer(process.corpus(config), config.run.out, done > 0);
        if (records)
            writer.emplace(arguments.record, Recording{.layout = layout_of(config, mesh),
                                                       .compute = parse_dtype(config.plan.compute),
                                                       .canonical = config.plan.bits == "layout"});
    });
    trainer.draw_with(sampler.get());
    if (arguments.sync) trainer.check_values();
    if (trace) trainer.trace(*trace);
    if (records) trainer.record(writer ? &*writer : nullptr, arguments.record_values);
    tell_notes();
    if (first) {
        if (!places.note.empty()) say("note    {}", places.note);
        auto const had = folder->text_fingerprint();
        if (!had.empty() && had != process.text())
            say("note    the text has changed since the checkpoint: it had {}, now {}", had, process.text());
        describe(config, cluster, *programs, places, device);
        say("run     {}: steps {} to {}{}", config.run.out, done + 1, config.run.steps,
            checkpoint ? ", from " + checkpoint->folder.string() : "");
    }
    try {
        trainer.run();
    } catch (AgreedUsageError const& e) {
        throw AgreedError(e.what());  // training has begun: no longer a matter of arguments
    } catch (UsageError const& e) {
        throw Error(e.what());
    }
}

/// What all ranks do first: those with something wrong tell the others.
void agree_to_start(Communicator& world, std::exception_ptr wrong) {
    together(world, [&] {
        if (wrong) std::rethrow_exception(wrong);
    });
}

Config checked_config(TrainArguments const& arguments, Launcher const& launcher) {
    auto config = load_config(arguments.config, arguments.overrides);
    plan_device(config, launcher);
    check_config(config);
    return config;
}

void greet(Config const& config, World const& cluster) {
    say("plait train: {} on {}", config.model.family,
        config.data.path.empty() ? "no text" : value_text(config.data.path));
    for (auto const& note : cluster.notes) say("{}", note);
}

/// Prints what rank 0 of the planned mesh would have, and starts no rank.
int inspect(TrainArguments const& arguments, Launcher const& launcher) {
    auto config = checked_config(arguments, launcher);
    auto const cluster = plan_world(config, launcher);
    auto const ranks = planned_ranks(config, cluster);
    auto const sizes = mesh_of(config, ranks);
    bool const by_file = !config.run.cluster_file.empty();
    auto const places =
        place_world(config, sizes, by_file ? std::vector<std::string>{} : planned_hosts(launcher, ranks));
    auto backend = planned_backend(config, cluster);
    auto programs = compile_programs(config, Mesh(sizes, 0, places.order), backend);
    plan_sampler(config, programs);
    auto const is_memory = [](Dump const& d) { return d.what == Dump::What::memory; };
    auto const& dumps = arguments.dumps;
    std::optional<Programs> larger;
    if (arguments.dry_run || std::any_of(dumps.begin(), dumps.end(), is_memory))
        larger = compile_larger(config, backend, programs);
    auto const& largest = larger ? *larger : programs;
    for (auto const& d : dumps) fmt::print("{}", dump_text(d, config, is_memory(d) ? largest : programs));
    if (!arguments.dry_run) return 0;
    std::int64_t text = 0;
    auto outside = measure_outside(0, backend->workers());
    if (!config.data.path.empty()) {
        auto corpus = load_corpus(config);
        say("text        {}", corpus.summary());
        text = corpus.resident_bytes();
    }
    outside.text = text;
    fmt::print("{}", dry_run_text(config, largest, places, outside));
    return 0;
}

}  // namespace

int refuse(std::exception_ptr wrong) {
    auto const launcher = find_launcher();
    if (launcher.processes == 1 || !launcher.over_mpi() || !mpi_available()) std::rethrow_exception(wrong);
    return run_processes(launcher, [&](Communicator& world) { agree_to_start(world, wrong); });
}

int train(TrainArguments const& arguments) {
    auto const launcher = find_launcher();
    if (arguments.print_config || !arguments.dumps.empty() || arguments.dry_run) {
        if (launcher.rank > 0) return 0;
        if (!arguments.print_config) return inspect(arguments, launcher);
        auto config = load_config(arguments.config, arguments.overrides);
        plan_world(config, launcher);
        fmt::print("{}", config_text(config));
        return 0;
    }
    Config config;
    World cluster;
    Device gpu;  // of this process, where it has one
    std::exception_ptr wrong;
    try {
        config = checked_config(arguments, launcher);
        cluster = plan_world(config, launcher);
        if (config.run.device == "cuda") gpu = take_device(config, cluster, launcher, arguments.sync);
    } catch (UsageError const&) {
        // Other processes may have found nothing wrong: it is told where all can talk.
        if (launcher.processes == 1 || !launcher.over_mpi() || !mpi_available()) throw;
        wrong = std::current_exception();
    }
    Process process;
    auto run = [&](Communicator& world) {
        agree_to_start(world, wrong);
        if (cluster.of_processes() && !launcher.variable.empty()) check_world(launcher, world);
        if (world.rank() == 0) greet(config, cluster);
        train_rank(config, cluster, arguments, process,
                   gpu.gpu ? gpu : take_device(config, cluster, launcher), world);
    };
    auto by_nccl = [&](std::function<void(Communicator&)> const& f) {
        cuda::run_nccl(gpu.gpu, f,
                       {.ordered = config.plan.bits == "layout",
                        .over_mpi = launcher.over_mpi(),
                        .before = [](Communicator& all) { agree_to_start(all, nullptr); }});
    };
    if (gpu.gpu && cluster.of_processes()) return run_processes(launcher, run, Join(by_nccl));
    if (launcher.processes > 1 || cluster.of_processes()) return run_processes(launcher, run);
    run_threads(cluster.ranks, run);
    return 0;
}

}  // namespace plait::tools
