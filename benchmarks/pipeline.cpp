// How near a pipeline comes to what its schedule promises: two thread ranks with a core each train a Llama;
// F, B and W of every stage are measured as they run, check_schedule gives the makespan for these times, and
// the time from the first piece of any rank to the last one of any is put beside it. The gradient norm and
// the update, for which all ranks wait, come after it and are given apart.
#include "options.hpp"
#include "plait/comm/threads.hpp"
#include "plait/train/stage_costs.hpp"
#include "training.hpp"

#include <numeric>

using namespace plait;
using namespace plait::benchmark;

namespace {

struct Asked {
    std::int64_t ranks = 2, layers = 8, dim = 256, batch = 32, seq = 128, micro_batches = 8, steps = 7;
};

constexpr char usage[] =
    "usage: pipeline [--ranks N] [--layers N] [--dim N] [--batch N] [--seq N] [--micro-batches N] [--steps "
    "N]";

Asked parse(int argc, char** argv) {
    Asked o;
    Options{"pipeline",
            usage,
            {},
            {},
            {{"--ranks", &o.ranks},
             {"--layers", &o.layers},
             {"--dim", &o.dim},
             {"--batch", &o.batch},
             {"--seq", &o.seq},
             {"--micro-batches", &o.micro_batches},
             {"--steps", &o.steps}}}
        .read(argc, argv);
    check<UsageError>(o.dim % 64 == 0, "pipeline: --dim {}: use a multiple of 64", o.dim);
    return o;
}

/// What one rank has measured.
struct Measured {
    Schedule schedule;
    Costs costs;
    std::vector<PipelineSpan> spans;  // a step
    std::vector<double> seconds;      // of each step
};

Measured run(Asked const& o, ScheduleRow const& row, Communicator& world) {
    Size const size{"",   "llama", o.layers, o.dim, o.dim / 64, o.dim / 64, o.dim * 8 / 3 / 32 * 32,
                    1024, true,    o.batch,  o.seq};
    Mesh const mesh(world, {{"pipeline", static_cast<int>(o.ranks)}});
    int const stages = row.virtual_stages ? row.virtual_stages : 2;
    auto const plan =
        Plan(mesh).micro_batches(o.micro_batches).stages("blocks.*", std::string(row.name), stages);
    Training<models::Llama> training(size.config(), size.rows, plan, cpu_backend(1));
    auto& step = training.step;
    for (int i = 0; i < 2; ++i) training.once();
    Measured m;
    TraceLog log;
    step.trace(&log);
    for (std::int64_t i = 0; i < o.steps; ++i) {
        world.barrier().wait();
        training.once();
    }
    for (auto const& e : log.events)
        if (e.what == TraceLog::What::step) m.seconds.push_back(1e-9 * static_cast<double>(e.end - e.start));
    m.schedule = step.dumps().schedule;
    m.costs = measured_costs(step.program(), log, m.schedule.stages);
    m.spans = pipeline_spans(step.program(), log);
    return m;
}

double mean(std::vector<double> const& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

void measure(Asked const& o, ScheduleRow const& row) {
    std::vector<Measured> ranks(static_cast<std::size_t>(o.ranks));
    run_ranks(static_cast<int>(o.ranks), [&](Communicator& world) {
        ranks[static_cast<std::size_t>(world.rank())] = run(o, row, world);
    });
    std::vector<Costs> costs;
    for (auto const& r : ranks) costs.push_back(r.costs);
    auto const all = joined_costs(costs);
    auto schedule = ranks[0].schedule;
    schedule.whole_backward = false;  // the program sends as soon as B is done
    auto const timeline = check_schedule(schedule, all);
    std::vector<double> spans, seconds;
    for (std::size_t i = 0; i < ranks[0].spans.size(); ++i) {
        auto start = ranks[0].spans[i].start, end = ranks[0].spans[i].end;
        double step = 0;
        for (auto const& r : ranks) {
            start = std::min(start, r.spans[i].start), end = std::max(end, r.spans[i].end);
            step = std::max(step, r.seconds[i]);
        }
        spans.push_back(1e-9 * static_cast<double>(end - start)), seconds.push_back(step);
    }
    auto ms = [](double s) { return 1e3 * s; };
    auto const span = mean(spans), step = mean(seconds);
    double busy = 0;
    for (auto b : timeline.busy) busy += b;
    auto const ranks_of = static_cast<double>(o.ranks);
    std::printf("| %-11s | %8.1f | %8.1f | %+6.1f %% | %5.1f %% | %5.1f %% | %6.1f |", schedule.name.c_str(),
                ms(span), ms(timeline.makespan), 100 * (span / timeline.makespan - 1),
                100 * (ranks_of * span / busy - 1), 100 * timeline.bubble_fraction, ms(step - span));
    for (std::size_t s = 0; s < all.forward_seconds.size(); ++s)
        std::printf("%s %.1f %.1f %.1f", s ? "," : "", ms(all.forward_seconds[s]), ms(all.input_seconds[s]),
                    ms(all.weight_seconds[s]));
    std::printf(" |\n");
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    return exit_code_of([&] {
        auto const o = parse(argc, argv);
        std::printf(
            "%lld ranks with a thread each, a Llama of %lld layers of %lld, batch %lld x %lld, %lld "
            "micro-batches, "
            "means of %lld steps\n\n",
            static_cast<long long>(o.ranks), static_cast<long long>(o.layers), static_cast<long long>(o.dim),
            static_cast<long long>(o.batch), static_cast<long long>(o.seq),
            static_cast<long long>(o.micro_batches), static_cast<long long>(o.steps));
        std::printf(
            "| schedule | pipeline, ms | checker, ms | off by | bubble | checker's | norm and update, ms | F "
            "B W "
            "of "
            "the stages, ms |\n|---|---|---|---|---|---|---|---|\n");
        for (auto const& row : schedule_table()) measure(o, row);
    });
}
