// How much of the time that collectives take does not show in a step, beside what no order of its nodes can
// beat. Prints a table.
#include "options.hpp"
#include "plait/comm/threads.hpp"
#include "plait/graph/collective.hpp"
#include "training.hpp"

#include <unordered_map>

using namespace plait;
using namespace plait::benchmark;

namespace {

constexpr char usage[] = "usage: latency [--steps N] [--milliseconds N]";

/// The longest way through a step's graph in milliseconds, where nodes take `step_ms` by their operations and
/// collectives `latency_ms` each; and the collectives on that way.
std::pair<double, int> longest_way(Graph const& graph, double step_ms, double latency_ms) {
    double flops = 0;
    auto cost = [](Node const& n) {
        return source_of(n) ? 0 : n.op.cost(plait::detail::metas_of(n.inputs)).flops;
    };
    for (auto const& n : graph.nodes) flops += cost(*n);
    std::unordered_map<Node const*, std::pair<double, int>> way;
    std::pair<double, int> longest;
    for (auto const& n : graph.nodes) {
        std::pair<double, int> here;
        for (auto const& v : n->inputs) here = std::max(here, way[v.node.get()]);
        bool together = is_collective(n->op);
        here.first += together ? latency_ms : step_ms * cost(*n) / flops;
        here.second += together;
        longest = std::max(longest, way[n.get()] = here);
    }
    return longest;
}

struct Layout {
    std::string name, axis;
    int zero = 0;
    bool tensor = false, sequence = false;

    Plan plan(Communicator& world) const {
        auto plan = Plan(Mesh(world, {{axis, 2}})).zero(zero);
        if (tensor) plan.megatron("tensor");
        if (sequence) plan.sequence("tensor");
        return plan;
    }
};

void measure(Layout const& l, std::int64_t steps, double latency_ms) {
    double step_ms[2] = {};
    int collectives = 0;
    std::pair<double, int> way;
    for (bool late : {false, true})
        run_ranks(2,
                  [&](Communicator& world) {
                      Training<models::Llama> run(tiny.config(), tiny.rows, l.plan(world), cpu_backend(1));
                      run.once();
                      std::vector<double> times;
                      for (std::int64_t i = 0; i < steps; ++i)
                          times.push_back(1e3 * seconds([&] { run.once(); }));
                      if (world.rank() > 0) return;
                      step_ms[late] = median(times), collectives = run.step.program().collectives;
                      if (!late) way = longest_way(run.step.dumps().sections.graph, step_ms[0], latency_ms);
                  },
                  {.latency_seconds = late ? 1e-3 * latency_ms : 0});
    auto const added = latency_ms * collectives;
    auto const at_least = std::max(0.0, way.first - step_ms[0]);
    fmt::print("| {} | {} | {} | {:.1f} | {:.1f} | {:.0f} % | {:.0f} % |\n", l.name, collectives, way.second,
               step_ms[0], step_ms[1], 100 * (1 - (step_ms[1] - step_ms[0]) / added),
               100 * (1 - at_least / added));
    std::fflush(stdout);
}

void run(std::int64_t steps, std::int64_t milliseconds) {
    fmt::print("{}, two ranks, one micro-batch, bits = fast: {} ms added to every collective\n\n", tiny.name,
               milliseconds);
    fmt::print(
        "| layout | collectives | in a row | step ms | with latency ms | hidden | bound |\n"
        "|---|---|---|---|---|---|---|\n");
    for (int zero = 0; zero <= 3; ++zero)
        measure({fmt::format("data = 2, zero {}", zero), "data", zero}, steps,
                static_cast<double>(milliseconds));
    measure({"tensor = 2", "tensor", 0, true}, steps, static_cast<double>(milliseconds));
    measure({"tensor = 2, sequence", "tensor", 0, true, true}, steps, static_cast<double>(milliseconds));
}

}  // namespace

int main(int argc, char** argv) {
    return exit_code_of([&] {
        std::int64_t steps = 5, milliseconds = 20;
        Options{"latency", usage, {}, {}, {{"--steps", &steps}, {"--milliseconds", &milliseconds}}}.read(
            argc, argv);
        run(steps, milliseconds);
    });
}
