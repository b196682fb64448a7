#include "plait/parallel/buckets.hpp"

#include "catch.hpp"
#include "laws/ranks.hpp"
#include "plait/graph/collective.hpp"
#include "plait/ops/view.hpp"

#include <map>

using namespace plait;
using namespace tests;

namespace {

/// Starts of calls along data in a rank's program, by bytes: {of buckets and small ones, of large ones}.
struct Calls {
    int count = 0, small = 0, shared = 0;
    std::int64_t bytes = 0;
};
Calls calls_of(Program const& program, Verb verb) {
    Calls calls;
    for (auto const& i : program.instructions) {
        if (!i.collective || i.collective->verb != verb || i.collective->axis != "data") continue;
        if (i.origin.phase != Phase::backward) continue;
        ++calls.count;
        calls.small += i.in[0].meta.bytes() < small_gradient;
        calls.bytes += i.in[0].meta.bytes();
    }
    for (auto const& i : program.instructions) calls.shared += i.op.as<Join>() != nullptr;
    return calls;
}

Subject wide() {
    auto s = gpt2();
    s.config.dim = 160, s.config.hidden = 320, s.config.layers = 3;
    return s;
}

}  // namespace

TEST_CASE("small gradients of a module share a call, large ones keep theirs") {
    auto const s = wide();
    for (int zero : {0, 1, 2, 3})
        for (std::int64_t micro : {1, 2}) {
            CAPTURE(zero, micro);
            Arrangement const a{.data = 2, .micro = micro, .zero = zero, .bits = Bits::fast};
            auto const t = training_on(Mesh(a.sizes(), 0), s, a);
            auto const calls = calls_of(t.step->program(), zero ? Verb::reduce_scatter : Verb::all_reduce);
            std::int64_t small = 0, large = 0, bytes = 0;
            for (auto const& v : t.state->variables()) {
                if (v->kind != VariableKind::parameter) continue;
                // Of the positions only the rows of the sequence have a gradient.
                if (v->path == "positions.weight" && zero) continue;
                ++(v->meta.bytes() < small_gradient ? small : large);
                bytes += v->path == "positions.weight" ? s.seq * s.config.dim * 4 : v->meta.bytes();
            }
            CHECK(small > 3 * 8);
            CHECK(calls.bytes == bytes);
            CHECK(calls.count - calls.small == large);
            // One for each block, and those of the ends.
            CHECK(calls.small <= 3 + 3);
            CHECK(calls.shared >= 3);
        }
}

TEST_CASE("a gradient that is read at once, or is a result, does not wait for others") {
    Mesh const mesh({{"data", 2}}, 0);
    auto reduced = [&](std::string const& path, Tensor const& x) {
        OriginScope origin({path, Phase::backward, false});
        auto start = record(AllReduce{"data", Combine::sum}, {x.value()});
        return Tensor(Value{record(Await{true}, {Value{start, 0}}), 0});
    };
    auto count = [&](std::vector<Output> outputs) {
        LocalGraph local{Graph::of(std::move(outputs)), {}, {}, {}};
        auto const made = share_reductions(local, mesh, [](std::string_view) { return 0; });
        int calls = 0;
        for (auto const& n : made.graph.nodes) calls += is_collective(n->op);
        return calls;
    };
    auto x = batch_input("x", {f32, {4, 6}}), y = batch_input("y", {f32, {8}}),
         z = batch_input("z", {f32, {3}});
    auto sums = [](Tensor const& a, Tensor const& b) {
        return std::vector<Output>{{"s", (sum(a) + sum(b)).value()}};
    };
    CHECK(count(sums(reduced("blocks.0.a", x), reduced("blocks.0.b", y))) == 1);
    // Another module, an odd size, a result, and one that is made from the other.
    CHECK(count(sums(reduced("blocks.0.a", x), reduced("blocks.1.a", y))) == 2);
    CHECK(count(sums(reduced("blocks.0.a", y), reduced("blocks.0.b", z))) == 2);
    CHECK(count({{"a", reduced("blocks.0.a", x).value()}, {"b", reduced("blocks.0.b", y).value()}}) == 2);
    auto first = reduced("blocks.0.a", y);
    CHECK(count(sums(first, reduced("blocks.0.b", first * 2.0))) == 2);
}

namespace {

/// Two cotangents of one module that are reduced along tensor, and are no gradients of variables.
struct Twofold {
    nn::Linear ca{8, 8}, cb{8, 8}, wa{8, 12}, wb{8, 12};
    using fields = Fields<&Twofold::ca, &Twofold::cb, &Twofold::wa, &Twofold::wb>;

    Tensor operator()(Tensor const& x) const {
        auto a = ca(x), b = cb(x);
        return wa(a) * wb(b);
    }
};
struct Around {
    Twofold block;
    using fields = Fields<&Around::block>;
};

}  // namespace

TEST_CASE("cotangents that backward reads on are reduced where they are made") {
    Mesh const mesh({{"tensor", 2}}, 0);
    Around model;
    optim::AdamW adam;
    auto const all = state(model, adam, cpu_backend(1));
    auto const plan = Plan(mesh).shard("block.{wa,wb}.weight", "tensor", 0).micro_batches(2);
    auto const step = compile(plan, all, {{"x", {f32, {4, 6, 8}}}}, [&](Batch const& b) -> Row {
        auto [loss, g] = value_and_gradients(model, [&] { return mean(square(model.block(b["x"]))); });
        adam.update(model, g);
        return {{"loss", loss}};
    });
    int reduced = 0, loops = 0;
    for (auto const& i : step.program().instructions)
        reduced += i.collective && i.collective->axis == "tensor" && i.in[0].meta.shape.rank() == 3;
    for (auto const& [node, section] : step.dumps().sections.section)
        if (node->origin.phase == Phase::backward && section % 2) loops = std::max(loops, section);
    CHECK(reduced == 2);
    CHECK(loops == 1);
}

TEST_CASE("values of a shared call are where they were") {
    Mesh const mesh({{"data", 2}}, 1);
    auto x = batch_input("x", {f32, {4, 6}}), y = batch_input("y", {f32, {6, 4}});
    auto scattered = [&](Tensor const& t, bool stacked, Shape const& shape) {
        OriginScope origin({"blocks.0", Phase::backward, false});
        Value in = t.value();
        if (stacked) in = {record(Reshape{shape}, {in}), 0};
        auto start = record(ReduceScatter{"data", 2, Combine::sum, stacked}, {in});
        return Value{record(Await{true}, {Value{start, 0}}), 0};
    };
    Value a = scattered(x, false, {}), b = scattered(y, true, {2, 12});
    LocalGraph local{Graph::of({{"s", (sum(Tensor(a)) + sum(Tensor(b))).value()}}), {}, {}, {}};
    local.place[a] = {{2, 0}, {4, 6}};
    local.inside = {a.node.get(), a.node->inputs[0].node.get(), b.node.get(), b.node->inputs[0].node.get()};
    auto const made = share_reductions(local, mesh, [](std::string_view) { return 0; });
    std::vector<Meta> calls;
    std::map<std::string_view, int> inside;
    for (auto const& n : made.graph.nodes) {
        if (n->op.as<ReduceScatter>()) calls.push_back(n->inputs[0].meta());
        if (made.inside.contains(n.get())) ++inside[n->op.name()];
    }
    CHECK(calls == Metas{{f32, {2, 24}}});
    CHECK(inside["reduce_scatter"] == 1);
    CHECK(inside["await"] == 1);
    CHECK(inside["part"] == 2);
    REQUIRE(made.place.size() == 1);
    CHECK(made.place.begin()->first.meta() == Meta{f32, {2, 6}});
    CHECK(made.place.begin()->second == Placement{{2, 0}, {4, 6}});
}
