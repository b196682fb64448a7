#pragma once

#include "catch.hpp"
#include "laws/training.hpp"
#include "plait/comm/threads.hpp"
#include "plait/parallel/buckets.hpp"
#include "plait/parallel/choose.hpp"
#include "plait/parallel/convert.hpp"
#include "plait/parallel/lines.hpp"
#include "plait/parallel/loops.hpp"
#include "plait/train/shared_state.hpp"

#include <functional>
#include <map>
#include <optional>

/// Trains one model on many layouts, and gives what must not depend on them.
namespace tests {

/// What is trained.
struct Subject {
    std::string name, family = "llama";
    models::Config config{};
    DType compute = f32;
    Granularity granularity{};
    std::int64_t batch = 16, seq = 24;
    DType master = f32;  // of matrices
};

/// Sizes that no vector width divides, and that some axes do not.
inline Subject llama(std::string name = "llama") {
    Subject s{std::move(name), "llama"};
    s.config.dim = 48, s.config.layers = 2, s.config.heads = 4, s.config.kv_heads = 4, s.config.hidden = 80;
    s.config.vocab = 96, s.config.seq = 24, s.config.loss_chunk = 40;
    return s;
}
inline Subject untied_llama() {
    auto s = llama("llama, untied");
    s.config.tied = false, s.config.vocab = 90, s.config.loss_chunk = 0;
    return s;
}
inline Subject grouped_llama() {
    auto s = llama("llama, grouped-query");
    s.config.kv_heads = 2;
    return s;
}
inline Subject gpt2() {
    auto s = llama("gpt2");
    s.family = "gpt2", s.config.hidden = 84, s.config.seq = 32;
    return s;
}
inline Subject dropping_gpt2() {
    auto s = gpt2();
    s.name += ", dropout", s.config.dropout = 0.2, s.config.loss_chunk = 0;
    return s;
}
inline std::vector<Subject> subjects() {
    return {llama(), untied_llama(), grouped_llama(), gpt2(), dropping_gpt2()};
}

/// Where it is trained.
struct Arrangement {
    int replica = 1, data = 1;
    std::int64_t micro = 1;  // micro-batches of one rank
    int zero = 0;
    bool recompute = false;
    Bits bits = Bits::layout;
    int tensor = 0;  // 0: no line speaks of the axis
    bool sequence = false;
    int pipeline = 1;
    std::string schedule = "1f1b";
    int virtual_stages = 1;
    std::vector<int> order{};  // of the mesh's ranks

    /// Blocks of the batch, and ranks.
    int blocks() const { return replica * data; }
    int ranks() const { return blocks() * std::max(tensor, 1) * pipeline; }
    MeshSizes sizes() const {
        return {
            {"replica", replica}, {"data", data}, {"pipeline", pipeline}, {"tensor", std::max(tensor, 1)}};
    }
    Plan plan(Mesh const& mesh, Subject const& s) const {
        Plan plan(mesh);
        plan.zero(zero).micro_batches(micro * blocks()).compute(s.compute).bits(bits, s.granularity);
        if (recompute) plan.recompute("blocks.*");
        if (tensor) plan.megatron("tensor");
        if (sequence) plan.sequence("tensor");
        plan.stages("blocks.*", schedule, virtual_stages);
        return plan;
    }
    /// Whether the granularity covers it.
    bool covered(Granularity const& g) const {
        return blocks() <= g.data && blocks() * micro <= g.batch && tensor <= g.tensor;
    }
};

inline std::string text_of(Subject const& s, Arrangement const& a) {
    auto const& g = s.granularity;
    return fmt::format("{}, {}, granularity {} {} {}, replica={} data={}, {} micro-batches, zero {}{}",
                       s.name, name_of(s.compute), g.batch, g.data, g.tensor, a.replica, a.data, a.micro,
                       a.zero, a.recompute ? ", recompute" : "") +
           (a.tensor ? fmt::format(", tensor={}{}", a.tensor, a.sequence ? ", sequence" : "") : "") +
           (a.pipeline > 1
                ? fmt::format(", pipeline={} {}, {} virtual", a.pipeline, a.schedule, a.virtual_stages)
                : "");
}

/// What a rank has after some steps.
struct Outcome {
    std::vector<double> loss, norm;  // of each step
    std::uint64_t hash = 0;          // of all parameters, whatever block of them the rank holds

    bool operator==(Outcome const&) const = default;
};

/// What is broken on purpose.
struct Broken {
    std::function<std::unique_ptr<Communicator>(Communicator&)> world{};  // stands for the real one
    std::function<Graph(Graph const&)> graph{};                           // before it is laid out
    std::function<void(Program&)> program{};
    std::shared_ptr<Backend> backend{};
};

/// The rest of compile, from what its passes left.
inline Program laid_out(Graph const& passed, Plan const& plan, State const& state) {
    auto const& mesh = plan.mesh();
    auto layouts = lay_out(passed, resolve_lines(plan, passed, state.variables()), mesh, plan.bits());
    auto micro = plan.local_micro_batches();
    std::optional<Leaves> leaves;
    if (plan.bits() == Bits::layout)
        leaves = Leaves::of(plan.granularity(), micro * mesh.axis("replica").size * mesh.axis("data").size);
    std::optional<std::int64_t> tensor_leaves;
    if (leaves) tensor_leaves = plan.granularity().tensor;
    auto local = share_reductions(localize(passed, layouts, mesh, tensor_leaves), mesh,
                                  [](std::string_view) { return -1; });
    return emit(cut_loops(local, micro, leaves), state.backend(),
                [&](Variable const& v) { return state.offset_of(v); });
}

inline Training training_on(Mesh const& mesh, Subject const& s, Arrangement const& a,
                            Broken const& broken = {}) {
    auto backend = broken.backend ? broken.backend : cpu_backend(1);
    auto plan = a.plan(mesh, s);
    auto t = training(s.family, s.config, plan, backend, s.batch, s.seq, s.master);
    if (!broken.graph && !broken.program) return t;
    auto program =
        broken.graph ? laid_out(broken.graph(t.step->dumps().passed), plan, *t.state) : t.step->program();
    if (broken.program) broken.program(program);
    t.step = std::make_shared<Step>(std::move(program), t.step->dumps(), t.state,
                                    std::make_shared<Scratch>(backend), mesh);
    return t;
}

/// Parameters that are kept in blocks are summed up along data.
inline std::uint64_t hash_of(Training const& t, Mesh const& mesh) {
    std::vector<std::int64_t> blocks;
    std::uint64_t whole = 0;
    for (auto const& v : t.state->variables()) {
        if (v->kind != VariableKind::parameter) continue;
        auto hash = t.state->parameter_hash(*v);
        if (t.state->place_of(*v).logical.empty()) whole += hash;
        else blocks.push_back(static_cast<std::int64_t>(hash));
    }
    if (!blocks.empty()) mesh.along("data")->all_reduce(std::span(blocks), Combine::integer_sum).wait();
    for (auto b : blocks) whole += static_cast<std::uint64_t>(b);
    return whole;
}

inline Outcome train(Communicator& real, Subject const& s, Arrangement const& a, int steps = 3,
                     Broken const& broken = {}) {
    auto decorated = broken.world ? broken.world(real) : nullptr;
    auto& world = decorated ? *decorated : real;
    Mesh mesh(world, a.sizes(), a.order);
    auto t = training_on(mesh, s, a, broken);
    Outcome outcome;
    for (int i = 0; i < steps; ++i) {
        auto row = t();
        outcome.loss.push_back(row.at(0).second.item());
        outcome.norm.push_back(row.at(1).second.item());
    }
    // Where other axes divide too, copies are compared as well.
    outcome.hash =
        a.tensor || a.pipeline > 1 ? SharedState(world, t.state).parameter_hash() : hash_of(t, mesh);
    return outcome;
}

/// The same on threads: one outcome a rank.
inline std::vector<Outcome> outcomes(Subject const& s, Arrangement const& a, int steps = 3,
                                     Broken const& broken = {}) {
    std::vector<Outcome> all(static_cast<std::size_t>(a.ranks()));
    run_ranks(a.ranks(),
              [&](Communicator& world) {
                  all[static_cast<std::size_t>(world.rank())] = train(world, s, a, steps, broken);
              },
              {.limit_seconds = 60});
    return all;
}

/// On one rank, in one piece; kept, as many layouts are held to it.
inline Outcome const& wanted(Subject const& s, Bits bits = Bits::layout, bool lines = false) {
    static std::map<std::string, Outcome> known;
    Arrangement one{.bits = bits, .tensor = lines ? 1 : 0};
    auto [it, fresh] =
        known.try_emplace(fmt::format("{} {} {} {} ", s.config.layers, s.config.dim, s.batch, s.seq) +
                          text_of(s, one) + (bits == Bits::fast ? " fast" : ""));
    if (fresh) it->second = outcomes(s, one).front();
    return it->second;
}

/// Whether every rank has the bits of one rank.
inline bool law_holds(Subject const& s, Arrangement const& a, Broken const& broken = {}) {
    auto const& want = wanted(s);
    for (auto const& o : outcomes(s, a, 3, broken))
        if (!(o == want)) return false;
    return true;
}

/// Holds every row of a table of layouts to one rank; `lines` where shard lines are part of the subject.
template <class Rows, class CaseOf>
void check_bits_of_one_rank(Rows const& rows, CaseOf const& case_of, bool lines) {
    int failed = 0;
    for (auto const& row : rows) {
        auto c = case_of(row);
        INFO(text_of(c.subject, c.arrangement));
        auto const& want = wanted(c.subject, Bits::layout, lines);
        for (auto const& o : outcomes(c.subject, c.arrangement)) {
            CHECK(o.loss == want.loss);
            CHECK(o.norm == want.norm);
            CHECK(o.hash == want.hash);
            failed += !(o == want);
        }
        REQUIRE(failed < 20);
    }
}

}  // namespace tests
