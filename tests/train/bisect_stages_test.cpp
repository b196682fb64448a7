// Faults of one stage of a pipeline: which rank is named.
#include "catch.hpp"
#include "plait/train/recording_files.hpp"
#include "scratch.hpp"
#include "train/bisect_runs.hpp"

#include <algorithm>
#include <atomic>

using namespace plait;
using namespace tests;

namespace {

Way const two_stages{.sizes = {{"pipeline", 2}}, .micro = 4},
    four_ranks{.sizes = {{"pipeline", 2}, {"tensor", 2}}, .micro = 4, .lines = {"megatron tensor"}};

/// The gradient of a weight of the second stage keeps the last micro-batch alone. Counts the ranks that have
/// it.
std::function<void(Program&)> lose_on_a_stage(std::atomic<int>& ranks) {
    return [&](Program& program) {
        for (auto& i : program.instructions) {
            auto const* p = i.op.as<Product>();
            if (p && p->form == ProductForm::tn && i.origin.path == "blocks.1.mlp.gate" && i.accumulate)
                i.accumulate = 0, ++ranks;
        }
    };
}

/// One step on stages, after which rank `spoiler` changes an element of a weight of the second stage.
Recording spoiled(Way const& w, int spoiler) {
    auto const s = llama();
    Recording result{.layout = text_of(w), .compute = s.compute, .canonical = false};
    run_ranks(w.ranks(), [&](Communicator& world) {
        Mesh const mesh(world, w.sizes);
        Plan plan(mesh);
        plan.micro_batches(w.micro).stages("blocks.*");
        for (auto const& line : w.lines) plan.line(line);
        auto t = training(s.family, s.config, plan, cpu_backend(1), s.batch, s.seq);
        auto const results = t();
        for (auto const& v : t.state->variables()) {
            if (world.rank() != spoiler || v->path != "blocks.1.mlp.gate.weight") continue;
            auto block = t.state->read(*v);
            block.values<float>()[0] += 1;
            t.state->write(*v, block);
        }
        auto values = recorded_values(world, *t.step, results, true);
        if (world.rank() == 0) result.values = std::move(values);
    });
    return result;
}

RecordedValue const& named(Recording const& r, std::string const& name) {
    auto it = std::find_if(r.values.begin(), r.values.end(), [&](auto const& v) { return v.name == name; });
    check(it != r.values.end(), "no {}", name);
    return *it;
}

}  // namespace

TEST_CASE("what a stage makes wrong is found on a rank of that stage") {
    for (auto const& [way, rank] : {std::pair(two_stages, 1), {four_ranks, 2}}) {
        std::atomic<int> lost = 0;
        auto const exact = exact_recording(llama()), one = recording(llama(), {}, {}, &exact);
        CHECK(!bisect(one, recording(llama(), way, {}, &exact), &exact).fault());
        auto const found =
            bisect(one, recording(llama(), way, {}, &exact, {.program = lose_on_a_stage(lost)}), &exact);
        INFO(bisection_text(found));
        CHECK(lost == way.ranks() / 2);
        auto const* fault = found.fault();
        REQUIRE(fault);
        CHECK(fault->name == "blocks.1.mlp.gate.weight.gradient");
        CHECK(fault->rank == rank);
    }
}

TEST_CASE("a variable that is wrong on one rank of a stage is found with that rank") {
    for (auto const& [way, rank] : {std::pair(two_stages, 1), {four_ranks, 2}, {four_ranks, 3}}) {
        auto const found = bisect(spoiled(way, -1), spoiled(way, rank));
        INFO(bisection_text(found));
        auto const* fault = found.fault();
        REQUIRE(fault);
        CHECK(fault->name == "blocks.1.mlp.gate.weight");
        CHECK(fault->rank == rank);
        CHECK(found.compared == found.same + 1);
    }
}

TEST_CASE("a recording knows which ranks have nothing of a value, and so does its file") {
    auto recorded = spoiled(four_ranks, -1);
    auto const check_origins = [](Recording const& r) {
        using Origins = std::vector<std::optional<Shape>>;
        auto const& gate = named(r, "blocks.1.mlp.gate.weight");
        CHECK(gate.block == Shape{40, 48});
        CHECK(gate.origins == Origins{{}, {}, Shape{0, 0}, Shape{40, 0}});
        CHECK(named(r, "blocks.0.mlp_norm.weight").origins == Origins{Shape{0}, Shape{0}, {}, {}});
        CHECK(named(r, "grad_norm").origins.empty());
    };
    check_origins(recorded);
#ifdef PLAIT_HAS_JSON
    ScratchFolder folder;
    RecordingWriter(folder / "a", recorded).write(recorded.values);
    check_origins(read_recording(folder / "a"));
#endif
}
