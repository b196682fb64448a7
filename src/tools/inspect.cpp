#include "inspect.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "plait/graph/micro.hpp"
#include "plait/parallel/schedule_live.hpp"
#include "plait/parallel/schedule_text.hpp"
#include "plait/parallel/show.hpp"
#include "plait/train/progress.hpp"

namespace plait::tools {
namespace {

std::string row(std::string_view name, std::int64_t bytes, std::string_view note = "") {
    auto exact = bytes == 0 ? "0" : count_text(static_cast<double>(bytes));
    auto line = fmt::format("  {:<14}{:>18} B{:>12}", name, exact, bytes_text(static_cast<double>(bytes)));
    return line + (note.empty() ? "" : fmt::format("   {}", note)) + "\n";
}

/// "loop 1" for section 1, which runs once a micro-batch; "part 1" for section 0.
std::string section_name(int section) {
    return fmt::format("{} {}", section % 2 ? "loop" : "part", section / 2 + 1);
}

std::string ranks_text(Mesh const& mesh) {
    return mesh.ranks() == 1 ? "1 rank" : fmt::format("{} ranks", mesh.ranks());
}

std::string layout_text(Sections const& sections) {
    std::string text = fmt::format("micro-batches: {}; each value: its section, and its layout over micro\n",
                                   sections.micro_batches);
    auto index = index_of(sections.graph);
    std::vector<std::shared_ptr<Node const>> nodes;
    ValueMap<bool> partial;
    for (auto const& n : sections.graph.nodes) {
        if (n->op.as<MicroSum>() || n->op.as<MicroTree>())
            for (auto const& v : n->inputs) partial[v] = true;
        if (!source_of(*n)) nodes.push_back(n);
    }
    auto section = [&](auto const& n) { return sections.section.at(n.get()); };
    std::stable_sort(nodes.begin(), nodes.end(),
                     [&](auto const& a, auto const& b) { return section(a) < section(b); });
    for (auto const& n : nodes) {
        text += fmt::format("{:<8}%{} = {}", section_name(section(n)), index.at(n.get()), n->op.text());
        for (int i = 0; i < static_cast<int>(n->outputs.size()); ++i) {
            Value v{n, i};
            auto dim = sections.micro.find(v);
            text += fmt::format("{} {} {}", i ? "," : " :", to_string(v.meta()),
                                dim != sections.micro.end() ? fmt::format("shard({})", dim->second.dim)
                                : partial.contains(v)       ? "partial(sum)"
                                                            : "replicate");
        }
        text += fmt::format("  # {} {}\n", n->origin.path, name_of(n->origin.phase));
    }
    return text;
}

/// What the stages of a pipeline have, the order of their pieces by unit times, and how many micro-batches
/// are between their F and their W at most.
std::string pipeline_text(StageModules const& modules, Schedule const& schedule) {
    auto text = modules.text() + "\n" + schedule_text(schedule, check_schedule(schedule)) + "alive   ";
    for (auto n : live_counts(schedule, {}, schedule.rank_of_stage)) text += fmt::format("{} ", n);
    text += "by rank,";
    for (auto n : live_counts(schedule)) text += fmt::format(" {}", n);
    return text + " by stage\n\n";
}

/// What the plan comes to: below each preset the lines that it stands for.
std::string plan_text(PlanConfig const& config, Programs const& programs) {
    auto const& plan = programs.plan;
    std::string text;
    auto entry = [&](std::string_view name, std::string const& value) {
        text += fmt::format("{:<15}{}\n", name, value);
    };
    entry("mesh", plan.mesh().text());
    entry("micro-batches", std::to_string(plan.micro_batches()));
    entry("compute", std::string(name_of(plan.compute())));
    auto const& g = plan.granularity();
    entry("bits", plan.bits() == Bits::fast
                      ? "fast"
                      : fmt::format("layout: batch = {}, data = {}, tensor = {}", g.batch, g.data, g.tensor));
    for (auto const& glob : plan.recompute()) entry("recompute", glob);
    auto lines = config.lines;
    if (config.zero > 0) lines.push_back(fmt::format("zero {}", config.zero));
    for (auto const& line : lines) {
        text += line + "\n";
        auto const made = Plan().line(line).lines();
        if (made.size() == 1 && to_string(made.front()) == line) continue;
        for (auto const& l : made) text += "    " + to_string(l) + "\n";
    }
    auto const& dumps = programs.train.dumps();
    if (!dumps.sections.pipeline) return text;
    for (auto const& glob : config.stages.list) entry("stages of", glob);
    entry("schedule", dumps.schedule.name);
    return text + pipeline_text(dumps.modules, dumps.schedule);
}

std::string order_text(Step const& step) {
    auto const& program = step.program();
    auto const& schedule = step.dumps().schedule;
    bool const pipeline = step.dumps().sections.pipeline.has_value();
    auto const stages =
        pipeline ? fmt::format("{} stages by {}", schedule.stages, schedule.name) : "one stage";
    auto text = fmt::format("{}, {}; micro-batches of each: {}\n", ranks_text(step.mesh()), stages,
                            program.micro_batches);
    if (pipeline) text += pipeline_text(step.dumps().modules, schedule) + "of this rank\n";
    std::size_t width = 8;
    for (auto const& p : program.pieces) width = std::max(width, p.name.size());
    for (auto const& p : program.pieces)
        text += fmt::format("piece {:<{}} instructions {} to {}\n", p.name, width, p.first, p.last - 1);
    for (auto const& v : program.visits) {
        auto const& name = program.pieces[static_cast<std::size_t>(v.piece)].name;
        text += fmt::format("visit {:<{}} ", name, width);
        text += name.starts_with("part") ? "once\n" : fmt::format("micro-batch {}\n", v.micro);
    }
    return text;
}

}  // namespace

OutsideMemory measure_outside(std::int64_t text, int workers) {
    std::int64_t pages = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> pages >> resident;
    OutsideMemory outside;
    outside.text = text;
    outside.process = std::max<std::int64_t>(resident * ::sysconf(_SC_PAGESIZE) - text, 0);
    outside.libraries = (std::int64_t{4} << 20) + workers * (std::int64_t{1} << 20);
    return outside;
}

std::string memory_text(Config const& config, Programs const& programs, OutsideMemory const& outside) {
    auto t = programs.train.memory();
    std::string text = "in the arena, exact:\n";
    text += row("weights", t.weights);
    text += row("optimizer", t.optimizer);
    if (t.other_state) text += row("other state", t.other_state);
    text += row("gradients", t.gradients, "at the moment when most is alive");
    text += row("activations", t.activations);
    if (t.stash) text += row("stash", t.stash, "activations of micro-batches that are under way");
    text += row("inputs", t.inputs);
    text += row("workspace", t.workspace);
    text += row("gaps", t.gaps, "between places of the plan");
    // Validation overlays the step's scratch and is nearly always smaller.
    if (auto more = programs.arena_bytes() - t.total(); more > 0)
        text += row("validation", more, "beyond a step's");
    text += row("arena", programs.arena_bytes());
    text += "outside it:\n";
    text += row("process", outside.process, "measured: code, libraries and graphs, resident now");
    text += row("libraries", outside.libraries, "estimated: what they take at their first call");
    text += row("text", outside.text, outside.text ? "measured" : "none was read");
    text += row("checkpoint", programs.snapshot_bytes,
                programs.snapshot_bytes ? "exact: a copy that is written while training goes on"
                                        : "written straight from the arena");
    text += row("samples", programs.sample_bytes,
                programs.sample_bytes         ? "exact: weights and cache of what draws them, on rank 0"
                : config.run.sample_every > 0 ? "rank 0 draws them"
                                              : "none are drawn");
    text += row("in all", programs.all_bytes() + outside.process + outside.libraries + outside.text);
    return text;
}

std::string dry_run_text(Config const& config, Programs const& programs, RankPlaces const& places,
                         OutsideMemory const& outside) {
    auto text =
        fmt::format("parameters  {}\n", count_text(static_cast<double>(count_parameters(*programs.state))));
    if (auto const rows = padded_vocab(config); rows != config.model.vocab)
        text += fmt::format("vocabulary  {}, padded to {}\n", config.model.vocab, rows);
    auto const& mesh = programs.plan.mesh();
    text += fmt::format("mesh        {}: {}\n", mesh.text(), ranks_text(mesh));
    if (mesh.ranks() > 1) text += fmt::format("islands     {}\n", places.text());
    if (places.file && !links_text(*places.file).empty())
        text += fmt::format("links       {}\n", links_text(*places.file));
    if (!places.note.empty()) text += fmt::format("note        {}\n", places.note);
    text += fmt::format("batch       {} x {} tokens, micro-batches: {}\n", config.data.batch, config.data.seq,
                        config.plan.micro_batches);
    if (mesh.ranks() == 1) text += "memory of the rank\n";
    else if (mesh.rank() == 0 && mesh.axis("pipeline").size == 1)
        text += fmt::format("memory of one of the {}, rank 0\n", ranks_text(mesh));
    else
        text += fmt::format("memory of the one of the {} that has most, rank {}\n", ranks_text(mesh),
                            mesh.rank());
    return text + memory_text(config, programs, outside);
}

std::string dump_text(Dump const& dump, Config const& config, Programs const& programs) {
    auto const& step = programs.train;
    switch (dump.what) {
        case Dump::What::graph:
            if (dump.graphviz) return step.dumps().passed.dot();
            return fmt::format("recorded\n{}\nafter the passes\n{}", step.dumps().recorded.text(),
                               step.dumps().passed.text());
        case Dump::What::layout:
            if (dump.graphviz)
                return layouts_dot(step.dumps().passed, step.dumps().layouts, programs.plan.mesh());
            return fmt::format("over the mesh {}\n{}\nof this rank\n{}", programs.plan.mesh().text(),
                               layouts_text(step.dumps().passed, step.dumps().layouts, programs.plan.mesh()),
                               layout_text(step.dumps().sections));
        case Dump::What::schedule:
            return order_text(step);
        case Dump::What::memory:
            return memory_text(config, programs, measure_outside(0, programs.state->backend().workers()));
        case Dump::What::program:
            return step.program().text();
        case Dump::What::plan:
            return plan_text(config.plan, programs);
    }
    return {};
}

std::int64_t count_parameters(State const& state) {
    std::int64_t n = 0;
    for (auto const& v : state.variables())
        if (v->kind == VariableKind::parameter) n += v->counted();
    return n;
}

}  // namespace plait::tools
