// What a step puts on the wire of the pipeline axis, in closed form.
#include "catch.hpp"
#include "laws/pipelines.hpp"
#include "laws/wire.hpp"
#include "plait/graph/collective.hpp"
#include "plait/graph/pass.hpp"
#include "plait/parallel/pipeline.hpp"
#include "plait/passes/fusion.hpp"

using namespace plait;
using namespace tests;

namespace {

/// What a rank sends along pipeline.
struct Wire {
    Subject const& s;
    Arrangement const& a;
    int rank;  // along pipeline
    Schedule schedule = make_schedule(a.schedule, a.pipeline, a.virtual_stages, static_cast<int>(a.micro));
    Bytes bytes{};

    int rank_of(int stage) const { return schedule.rank_of_stage[static_cast<std::size_t>(stage)]; }
    void send(DType dtype, std::int64_t elements, std::int64_t times = 1) {
        bytes[name_of_row("pipeline", Verb::send, dtype)] += times * bytes_of(dtype, elements);
    }

    /// The residual stream to the next stage and its cotangent back, once for each micro-batch: a part of it
    /// where it is stored divided.
    void stream() {
        auto elements = s.batch * s.seq / (a.blocks() * a.micro) * s.config.dim;
        if (a.sequence) elements /= std::max(a.tensor, 1);
        for (int stage = 0; stage + 1 < schedule.stages; ++stage) {
            int const to = rank_of(stage + 1), from = rank_of(stage);
            if (from == to) continue;
            if (from == rank) send(s.compute, elements, a.micro);
            if (to == rank) send(s.compute, elements, a.micro);
        }
    }
    /// The loss, and whether all is finite, go to all ranks that did not make them. Of the norm every rank
    /// brings its part to all others: the largest gradient, and the words of the squares.
    void row() {
        auto const others = a.pipeline - 1;
        if (rank == rank_of(schedule.stages - 1)) send(f32, 1, others), send(u8, 1, others);
        send(f32, 1, others);
        send(i64, 2, others);
    }
    /// Both ends read a tied table, so each has its gradient from the other; a rank that has both ends does
    /// not ask.
    void tied(State const& state) {
        int const first = rank_of(0), last = rank_of(schedule.stages - 1);
        if (!s.config.tied || first == last || (rank != first && rank != last)) return;
        for (auto const& v : state.variables())
            if (v->kind == VariableKind::parameter && v->path == "tokens.weight") {
                auto n = v->meta.elements() / std::max(a.tensor, 1);
                // Under bits = fast both are added up before the ranks of data reduce them.
                if (a.zero >= 1 && a.bits == Bits::layout) n /= a.data;
                send(f32, n, 1);
            }
    }
};

std::vector<Traffic> traffic(Subject const& s, Arrangement const& a, Broken const& broken = {}) {
    auto wanted = [&](Mesh const& mesh, State const& state) {
        Wire wire{s, a, mesh.axis("pipeline").coordinate};
        wire.stream();
        wire.row();
        wire.tied(state);
        return wire.bytes;
    };
    return traffic_of(s, a, broken, wanted, "pipeline");
}

void check_law(std::size_t every) {
    auto const table = pipeline_table();
    auto const rows = pairwise(table);
    std::size_t done = 0;
    int failed = 0;
    for (std::size_t k = 0; k < rows.size(); k += every, ++done) {
        auto c = pipeline_case(rows[k]);
        c.arrangement.bits = k % 2 ? Bits::fast : Bits::layout;
        auto const all = traffic(c.subject, c.arrangement);
        check_traffic(c.subject, c.arrangement, all);
        failed += !traffic_holds(all);
        REQUIRE(failed < 8);
    }
    fmt::print("{} layouts of {} send along pipeline what they should\n", done, table.size());
}

}  // namespace

TEST_CASE("a step sends along pipeline what the closed forms say") { check_law(5); }

TEST_CASE("a step of any layout sends along pipeline what the closed forms say", "[slow]") { check_law(1); }

TEST_CASE("one tensor crosses to the next stage: a sum is made before it goes") {
    for (std::size_t model : {1, 3})
        for (auto bits : {Bits::fast, Bits::layout})
            for (bool recompute : {false, true}) {
                auto const s = pipeline_subjects()[model];
                Arrangement const a{.micro = 4, .recompute = recompute, .bits = bits, .pipeline = 2};
                INFO(text_of(s, a));
                int sends = 0;
                auto const t = training_on(Mesh(a.sizes(), 0), s, a);
                for (auto const& piece : t.step->program().pieces)
                    for (int i = piece.first; i < piece.last && piece.name == "stage 0 F"; ++i) {
                        auto const& n = t.step->program().instructions[static_cast<std::size_t>(i)];
                        sends += n.collective && n.collective->verb == Verb::send;
                    }
                CHECK(sends == 1);
            }
}

TEST_CASE("what is wider than it need be is seen on the wire of pipeline") {
    auto const s = pipeline_subjects()[1];
    Arrangement const a{.micro = 4, .bits = Bits::fast, .pipeline = 2};
    REQUIRE(traffic_holds(traffic(s, a)));
    // Fused over the border of the stages, as on one rank: both addends of a sum cross.
    auto joined = [&](int rank) {
        Mesh mesh(a.sizes(), rank);
        auto const plan = a.plan(mesh, s);
        auto const t = training_on(mesh, s, a);
        auto const& recorded = t.step->dumps().recorded;
        auto const passed = fuse(merge_common(recorded));
        auto const layouts =
            lay_out(passed, resolve_lines(plan, passed, t.state->variables()), mesh, plan.bits());
        auto const sections = cut_loops(localize(passed, layouts, mesh), a.micro, {}, true);
        auto const schedule = plan.schedule();
        auto const share =
            share_pipeline(sections, cut_stages(sections, find_stages(recorded, {"blocks.*"}, 2)), schedule,
                           rank, t.state->variables());
        int sends = 0;
        for (auto const& n : share.sections.graph.nodes)
            sends +=
                n->op.as<Send>() && share.sections.section.at(n.get()) == share.sections.pipeline->section;
        return sends;
    };
    CHECK(joined(0) == 2);
    CHECK(joined(1) == 1);
}
