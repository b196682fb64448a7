#pragma once

#include "plait/autograd/recompute.hpp"
#include "plait/cpu/device.hpp"
#include "plait/graph/glob.hpp"
#include "plait/graph/pass.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/update.hpp"
#include "plait/parallel/buckets.hpp"
#include "plait/parallel/choose.hpp"
#include "plait/parallel/convert.hpp"
#include "plait/parallel/lines.hpp"
#include "plait/parallel/loops.hpp"
#include "plait/parallel/pipeline.hpp"
#include "plait/passes/fusion.hpp"
#include "plait/passes/grouped_heads.hpp"
#include "plait/passes/lower.hpp"
#include "plait/passes/precision.hpp"
#include "plait/passes/split_loss.hpp"
#include "plait/train/compile.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>

namespace plait {
namespace detail {

/// Every variable reads itself when a recording begins, and again when it ends, however it ends.
class Recording {
  public:
    explicit Recording(State const& state) {
        for (auto const& v : state.variables()) v->current = v->source;
    }
    ~Recording() {
        for (auto* v : Recorder::current().assigned) v->current = v->source;
    }
    Recording(Recording const&) = delete;
    Recording& operator=(Recording const&) = delete;

  private:
    Trace trace_;
};

/// u8[]: 1 while the floating scalars of the row, and so their sum, are finite.
inline Tensor finite_row(Row const& row) {
    Tensor total;
    for (auto const& [name, t] : row) {
        if (!is_floating(t.dtype()) || t.rank() != 0) continue;
        total = total ? total + cast(t, total.dtype()) : t;
    }
    return total ? is_finite(total) : full({}, 1, u8);
}

/// Whether a value is a source, or only a view of one.
inline bool is_source_view(Value const& v) {
    Value root = v;
    while (!root.node->inputs.empty() && root.node->op.aliases().size() == 1 &&
           root.node->op.aliases()[0].view)
        root = root.node->inputs[0];
    return source_of(*root.node) != nullptr;
}

/// What is only a view of a variable is copied: its place changes when the step is stored.
inline Tensor settled(Value const& v) {
    return is_source_view(v) ? apply_one(Cast{v.meta().dtype}, {Tensor(v)}) : Tensor(v);
}

inline Graph record_step(State const& state, Columns const& columns,
                         std::function<Row(Batch const&)> const& f) {
    Recording recording(state);
    Batch batch;
    for (auto const& [name, meta] : columns) batch.columns[name] = batch_input(name, meta);
    if (auto it = batch.columns.find("tokens"); it != batch.columns.end()) batch.tokens = it->second;
    if (auto it = batch.columns.find("targets"); it != batch.columns.end()) batch.targets = it->second;
    Row row = f(batch);
    std::vector<Output> outputs;
    for (auto const& [name, t] : row) {
        check<UsageError>(static_cast<bool>(t), "the row's '{}' is an empty tensor", name);
        outputs.push_back({name, settled(t.value()).value()});
    }
    std::vector<Update> updates;
    OriginScope origin({"", Phase::update, false});
    for (auto const* v : Recorder::current().assigned)
        state.offset_of(*v);  // throws where it is not in the state
    // Every new value is recorded before the first is stored.
    Tensors values;
    for (auto const& v : state.variables())
        if (!(v->current == v->source)) values.push_back(settled(v->current));
    Tensor ok = values.empty() ? Tensor() : finite_row(row);
    std::size_t i = 0;
    for (auto const& v : state.variables()) {
        if (v->current == v->source) continue;
        updates.push_back({v->source, apply_one(Commit{}, {Tensor(v->source), values[i++], ok}).value()});
    }
    return Graph::of(std::move(outputs), std::move(updates), Recorder::current().marks);
}

inline Graph run_passes(Graph graph, Plan const& plan, Backend const& backend, StageModules const& stages) {
    graph = merge_common(graph);
    graph = lower_precision(graph, plan.compute());
    graph = recompute(graph, plan.recompute());
    auto apart = [&](std::string_view a, std::string_view b) {
        return stages.of(a) >= 0 && stages.of(b) >= 0 && stages.of(a) != stages.of(b);
    };
    graph = fuse(graph, apart);
    return expand_definitions(
        graph, [&](std::string_view op) { return find_kernel(backend.kernels(), op) != nullptr; });
}

/// Bits::layout: the batch is cut into leaves, whatever the mesh.
inline std::optional<Leaves> leaves_of(Plan const& plan, Columns const& columns, std::int64_t micro_batches,
                                       Backend const& backend) {
    if (plan.bits() == Bits::fast) return {};
    auto const& g = plan.granularity();
    for (auto const& [name, meta] : columns)
        check<UsageError>(
            meta.shape.rank() > 0 && meta.shape[0] % g.batch == 0,
            "plan: bits = layout cuts the batch into {} leaves, which do not divide {} ({}): use a "
            "multiple, or a smaller granularity of batch",
            g.batch, name, to_string(meta));
    auto ranks = plan.mesh().axis("replica").size * plan.mesh().axis("data").size;
    auto leaves = Leaves::of(g, micro_batches * ranks);
    leaves.together = [kernels = backend.kernels()](AnyOp const& op) {
        auto const* row = find_kernel(kernels, op.name());
        return row && row->run_many;
    };
    return leaves;
}

/// The blocks that shard lines cut heads and vocabulary into: with Bits::layout as many as the granularity
/// has.
inline std::int64_t tensor_blocks(Plan const& plan) {
    bool divided = std::any_of(plan.lines().begin(), plan.lines().end(),
                               [](PlanLine const& l) { return !l.stores && l.axis == "tensor"; });
    if (!divided) return 1;
    return plan.bits() == Bits::layout ? plan.granularity().tensor : plan.mesh().axis("tensor").size;
}

/// Lays the graph out; what would gather a sharded value gives way to its definition.
inline std::pair<ResolvedLines, Layouts> lay_out_program(Plan const& plan, Graph& graph, State const& state) {
    auto ways = tensor_blocks(plan);
    graph = split_losses(spread_grouped_heads(graph, ways), ways);
    for (;;) {
        auto lines = resolve_lines(plan, graph, state.variables());
        auto layouts = lay_out(graph, lines, plan.mesh(), plan.bits());
        auto gathering = gathering_nodes(graph, layouts);
        if (gathering.empty()) return {std::move(lines), std::move(layouts)};
        // Definitions of one module have steps in common: the logits of the loss and of its gradient.
        graph =
            merge_common(expand_nodes(graph, [&](Node const& n) { return gathering.contains(&n); }), false);
    }
}

/// Makes the marked values that the plan watches results. Once all is laid out, so that readers who come
/// late change neither how the rest is fused nor where it lies.
inline void watch(Graph& graph, Plan const& plan) {
    std::map<std::string, int> known;
    for (auto const& o : graph.outputs) ++known[o.name];
    std::vector<bool> used(plan.watched().size());
    for (auto const& m : graph.marks) {
        bool wanted = false;
        for (std::size_t i = 0; i < used.size(); ++i)
            if (glob_matches(plan.watched()[i], m.name)) wanted = used[i] = true;
        if (!wanted || is_source_view(m.value)) continue;
        // A module that is called again marks again.
        auto times = ++known[m.name];
        graph.outputs.push_back({times == 1 ? m.name : fmt::format("{}#{}", m.name, times), m.value});
    }
    for (std::size_t i = 0; i < used.size(); ++i)
        check<UsageError>(used[i], "plan: watch {} names no marked value; there is {}", plan.watched()[i],
                          graph.marks.empty() ? "none" : graph.marks.front().name);
}

PLAIT_INLINE Step compile(Plan const& plan, std::shared_ptr<State> state, std::shared_ptr<Scratch> scratch,
                          Columns const& columns, std::function<Row(Batch const&)> const& record) {
    auto& backend = state->backend();
    auto const& mesh = plan.mesh();
    auto micro_batches = plan.local_micro_batches();
    Graph recorded = record_step(*state, columns, record);
    bool pipeline = mesh.axis("pipeline").size > 1;
    Schedule schedule;
    StageModules stages;
    if (pipeline) {
        schedule = plan.schedule();
        // Another program of the state may weigh its modules otherwise, but finds the weights where they are.
        auto const& first = state->stages();
        check<UsageError>(
            first.count == 0 || first.count == schedule.stages,
            "plan: a schedule of {} stages, where the first program of this state has {}: use one "
            "number of stages for all",
            schedule.stages, first.count);
        stages = first.count ? StageModules{first.count, first.modules}
                             : find_stages(recorded, plan.stages(), schedule.stages);
    }
    Graph passed = run_passes(recorded, plan, backend, stages);
    auto [lines, layouts] = lay_out_program(plan, passed, *state);
    watch(passed, plan);
    std::optional<std::int64_t> tensor_leaves;
    if (plan.bits() == Bits::layout) tensor_leaves = plan.granularity().tensor;
    auto local = share_reductions(localize(passed, layouts, mesh, tensor_leaves), mesh,
                                  [&](std::string_view path) { return stages.of(path); });
    auto sections =
        cut_loops(local, micro_batches, leaves_of(plan, columns, micro_batches, backend), pipeline);
    Holders holders;
    if (pipeline) {
        auto cut = cut_stages(sections, stages);
        auto share =
            share_pipeline(sections, cut, schedule, mesh.axis("pipeline").coordinate, state->variables());
        sections = std::move(share.sections);
        holders = std::move(share.holders);
    }
    std::unordered_set<Variable const*> used;
    for (auto const& n : passed.nodes)
        if (auto const* s = source_of(*n)) used.insert(s->variable.lock().get());
    for (auto const& v : state->variables()) {
        if (state->settled(*v) && !used.contains(v.get())) continue;
        auto [shape, place] = block_of(*v, lines.variables.at(v.get()), mesh, holders);
        state->set_block(*v, shape, place);
    }
    state->settle();
    if (pipeline) state->set_stages({stages.stages, stages.modules});
    auto program = emit(sections, backend, [&](Variable const& v) { return state->offset_of(v); });
    return Step(std::move(program),
                {std::move(recorded), std::move(passed), std::move(layouts), std::move(sections),
                 std::move(holders), std::move(stages), std::move(schedule)},
                std::move(state), std::move(scratch), mesh);
}

/// The rank's rows of a column that is given whole; a block as it is.
inline Array own_block(Array const& column, Operand const& at) {
    auto const& place = at.block;
    if (place.logical.empty() || column.meta() == at.meta ||
        column.meta() != Meta{at.meta.dtype, place.logical})
        return column;
    Array block(at.meta);
    auto bytes = static_cast<std::size_t>(at.meta.bytes());
    auto row = static_cast<std::size_t>(at.meta.bytes() / std::max<std::int64_t>(at.meta.shape[0], 1));
    std::memcpy(block.bytes().data(), column.bytes().data() + static_cast<std::size_t>(place.origin[0]) * row,
                bytes);
    return block;
}

}  // namespace detail

PLAIT_INLINE Tensor const& Batch::operator[](std::string const& name) const {
    auto it = columns.find(name);
    check<UsageError>(it != columns.end(), "the batch has no column '{}'", name);
    return it->second;
}

PLAIT_INLINE std::shared_ptr<Backend> cpu_backend(int threads) { return cpu::make_backend(threads); }

PLAIT_INLINE Values Step::operator()(std::map<std::string, Array> const& batch) {
    std::map<std::string, Array> own;
    for (auto const& column : program().batch) {
        auto it = batch.find(column.name);
        if (it != batch.end()) own.emplace(column.name, detail::own_block(it->second, column.at));
    }
    auto values = executor_.run(own, {done_ + 1, seed_});
    ++done_;
    return values;
}

PLAIT_INLINE MemoryTable Step::memory() const {
    MemoryTable table = program().memory;
    for (auto const& v : state_->variables()) {
        auto& row = v->kind == VariableKind::parameter   ? table.weights
                    : v->kind == VariableKind::optimizer ? table.optimizer
                                                         : table.other_state;
        row += placed_bytes(state_->block_of(*v));
    }
    return table;
}

PLAIT_INLINE std::vector<Array> evaluate(Tensors const& x, std::shared_ptr<Backend> backend) {
    if (!backend) backend = cpu_backend(1);
    auto state = std::make_shared<State>(backend);
    std::vector<Output> outputs;
    for (auto const& t : x) {
        check<UsageError>(static_cast<bool>(t), "evaluate: value {} is an empty tensor", outputs.size());
        outputs.push_back({std::to_string(outputs.size()), t.value()});
    }
    auto graph = Graph::of(std::move(outputs));
    std::vector<std::shared_ptr<Variable>> variables;
    for (auto const& n : graph.nodes)
        if (auto const* s = source_of(*n)) {
            check<UsageError>(s->kind != SourceKind::batch && s->kind != SourceKind::feed,
                              "evaluate: the value reads the {} '{}', which only a compiled step has",
                              name_of(s->kind), s->label);
            if (auto v = s->variable.lock()) variables.push_back(std::move(v));
        }
    state->add(variables);
    graph = expand_definitions(
        graph, [&](std::string_view op) { return find_kernel(backend->kernels(), op) != nullptr; });
    auto program =
        emit(cut_loops(graph, 1), *backend, [&](Variable const& v) { return state->offset_of(v); });
    Executor executor(std::move(program), state, std::make_shared<Scratch>(backend));
    std::vector<Array> arrays;
    for (auto& [name, array] : executor.run({}, {})) arrays.push_back(std::move(array));
    return arrays;
}

PLAIT_INLINE Array evaluate(Tensor const& x, std::shared_ptr<Backend> backend) {
    return evaluate(Tensors{x}, std::move(backend)).front();
}

}  // namespace plait
