#include "plait/train/bisect.hpp"

#include "commands.hpp"
#include "launch.hpp"
#include "plait/train/recording_files.hpp"
#include "rank_places.hpp"
#include "trainer.hpp"

namespace plait::tools {
namespace {

int tell(Bisection const& found, Recording const& a, Recording const& b, std::int64_t rows) {
    fmt::print("{}", bisection_text(found, static_cast<std::size_t>(rows)));
    fmt::print("a: {}\nb: {}\n", a.layout, b.layout);
    return found.fault() ? 1 : 0;
}

int bisect_folders(BisectArguments const& arguments) {
    auto const a = read_recording(arguments.folders[0]), b = read_recording(arguments.folders[1]);
    check<UsageError>(a.compute == b.compute, "{} computes in {}, {} in {}: record both in one dtype",
                      arguments.folders[0], name_of(a.compute), arguments.folders[1], name_of(b.compute));
    if (arguments.exact.empty()) return tell(bisect(a, b), a, b, arguments.rows);
    auto const exact = read_recording(arguments.exact);
    check<UsageError>(exact.compute == f64,
                      "--exact {}: it computes in {}: record it with --plan.compute=f64", arguments.exact,
                      name_of(exact.compute));
    return tell(bisect(a, b, &exact), a, b, arguments.rows);
}

/// Runs a configuration on one layout, on ranks that are threads.
class LayoutRun {
  public:
    LayoutRun(BisectArguments const& arguments, Process& process) : arguments_(arguments), process_(process) {
        watch_ = arguments.watch;
        if (watch_.empty()) watch_ = {"**"};
    }

    Config config(std::vector<Override> const& side) const {
        auto all = arguments_.overrides;
        all.insert(all.end(), side.begin(), side.end());
        auto config = load_config(arguments_.config, all);
        // Its oracle computes in f64, which GPUs do not have.
        config.run.device = "cpu";
        check_config(config);
        check<UsageError>(
            config.run.cluster == "self" || threads_of(config.run.cluster),
            "plait bisect runs its ranks as threads: use run.cluster = \"threads:N\", not {}, or "
            "two folders of recordings",
            value_text(config.run.cluster));
        return config;
    }

    Recording operator()(Config config, Recording const* leader) const {
        auto world = plan_world(config, {});
        world.ranks = static_cast<int>(planned_ranks(config, world));
        world.here = world.ranks;
        auto const sizes = mesh_of(config, world.ranks);
        auto const places = place_world(config, sizes, {});
        Recording result{.layout = layout_of(config, Mesh(sizes, 0)),
                         .compute = parse_dtype(config.plan.compute),
                         .canonical = config.plan.bits == "layout"};
        run_threads(world.ranks, [&](Communicator& ranks) {
            Mesh const mesh(ranks, sizes, places.order);
            auto programs =
                compile_programs(config, mesh, cpu_backend(workers_of_rank(config, world)), watch_);
            programs.train.set_seed(static_cast<std::uint64_t>(config.run.seed));
            auto values = record_steps(ranks, programs.train, batches(config), arguments_.steps, leader);
            if (ranks.rank() == 0) result.values = std::move(values);
        });
        return result;
    }

  private:
    Batches batches(Config const& config) const {
        auto const& d = config.data;
        auto const& corpus = process_.corpus(config);
        auto loader = std::make_shared<Loader>(corpus.train_tokens(), corpus.train, d.batch, d.seq,
                                               static_cast<std::uint64_t>(config.run.seed));
        return [loader, meta = Meta{i32, {d.batch, d.seq}}](std::int64_t step) {
            Array tokens(meta), targets(meta);
            loader->fill(step, 0, meta.shape[0], tokens.values<std::int32_t>().data(),
                         targets.values<std::int32_t>().data());
            return std::map<std::string, Array>{{"tokens", tokens}, {"targets", targets}};
        };
    }

    BisectArguments const& arguments_;
    Process& process_;
    std::vector<std::string> watch_;
};

/// The same run on one rank in f64. What its lines divide has no meaning there.
Config exact_config(Config config) {
    config.plan.mesh.clear();
    config.plan.lines.clear();
    config.plan.zero = 0;
    config.plan.bits = "fast";
    config.plan.compute = "f64";
    config.run.cluster = "self";
    config.run.cluster_file.clear();
    config.origins["run.cluster"] = "plait bisect";
    return config;
}

int bisect_layouts(BisectArguments const& arguments) {
    check<UsageError>(find_launcher().processes == 1,
                      "plait bisect runs its ranks as threads of one process: start it without a launcher");
    Process process;
    LayoutRun const run(arguments, process);
    auto const a_config = run.config(arguments.a), b_config = run.config(arguments.b);
    check<UsageError>(a_config.plan.compute == b_config.plan.compute,
                      "--a computes in {}, --b in {}: give both one plan.compute", a_config.plan.compute,
                      b_config.plan.compute);
    if (a_config.plan.bits == "layout" && b_config.plan.bits == "layout") {
        auto const a = run(a_config, nullptr), b = run(b_config, &a);
        return tell(bisect(a, b), a, b, arguments.rows);
    }
    Recording exact;
    std::string why;
    try {
        exact = run(exact_config(a_config), nullptr);
    } catch (UsageError const&) {
        throw;
    } catch (Error const& e) {
        why = e.what();
    }
    auto const* leads = why.empty() ? &exact : nullptr;
    auto const a = run(a_config, leads), b = run(b_config, leads ? leads : &a);
    auto const code = tell(bisect(a, b, leads), a, b, arguments.rows);
    if (!leads) fmt::print("note: the model does not run in f64 ({}), so bounds are estimates\n", why);
    return code;
}

}  // namespace

int bisect(BisectArguments const& arguments) {
    return arguments.folders.empty() ? bisect_layouts(arguments) : bisect_folders(arguments);
}

}  // namespace plait::tools
