#include "plait/parallel/choose.hpp"
#include "catch.hpp"
#include "plait/graph/collective.hpp"
#include "plait/graph/parts.hpp"
#include "plait/parallel/convert.hpp"
#include "plait/parallel/wishes.hpp"
#include "plait/plait.hpp"

using namespace plait;

namespace {

auto const whole = AxisLayout{};
auto const stored0 = AxisLayout::shard(0, true), stored1 = AxisLayout::shard(1, true);
auto const shard0 = AxisLayout::shard(0), shard1 = AxisLayout::shard(1);

std::shared_ptr<Node const> node_of(Tensor const& t) { return t.value().node; }

/// How often an op stands in a graph.
template <Op T>
int count(Graph const& g) {
    int n = 0;
    for (auto const& node : g.nodes) n += node->op.as<T>() != nullptr;
    return n;
}

/// One parameter w[8, 4] with lines about it, read by what `f` makes of it and x[8, 4].
struct Laid {
    std::shared_ptr<Variable> w = make_variable({f32, {8, 4}}, Init::ones(), VariableKind::parameter, "w");
    Mesh mesh{{{"data", 2}}, 1};
    Graph graph;
    ResolvedLines lines;
    Layouts layouts;
    LocalGraph local;

    template <class F>
    Laid(std::vector<std::string> const& texts, F const& f, bool update = false) {
        Plan plan(mesh);
        for (auto const& t : texts) plan.line(t);
        Trace trace;
        Tensor y = f(read(*w), batch_input("x", {f32, {8, 4}}));
        std::vector<Update> updates;
        if (update) updates.push_back({w->source, y.value()});
        graph = Graph::of(update ? std::vector<Output>{} : std::vector<Output>{{"y", y.value()}}, updates,
                          Recorder::current().marks);
        lines = resolve_lines(plan, graph, {w});
        layouts = lay_out(graph, lines, mesh, Bits::fast);
        local = localize(graph, layouts, mesh);
    }
};

}  // namespace

TEST_CASE("an axis cuts the factor of the first input that is sharded") {
    Tensor x = full({8, 4}, 1), w = full({6, 4}, 1);
    auto n = node_of(linear(x, w));
    auto rows = choose(*n, {shard0, whole}, {2});
    CHECK(rows.factor >= 0);
    CHECK(rows.outputs[0] == shard0);
    CHECK(rows.inputs[1] == whole);
    auto columns = choose(*n, {whole, shard0}, {2});
    CHECK(columns.outputs[0] == shard1);
    auto contracted = choose(*n, {shard1, whole}, {2});
    CHECK(contracted.outputs[0] == AxisLayout::partial());
    CHECK(contracted.inputs[1] == shard1);  // both operands of a sum are cut
    auto none = choose(*n, {whole, whole}, {2});
    CHECK(none.factor == -1);
    CHECK(none.outputs[0] == whole);
}

TEST_CASE("work that is sharded goes before what is stored divided") {
    Tensor x = full({8, 4}, 1), w = full({6, 4}, 1);
    auto n = node_of(linear(x, w));
    auto batch = choose(*n, {shard0, stored0}, {2});
    CHECK(batch.outputs[0] == shard0);
    CHECK(batch.inputs[1] == whole);  // gathered
    auto kept = choose(*node_of(silu(w)), {stored1}, {2});
    CHECK(kept.outputs[0] == stored1);
    CHECK(kept.outputs[0].stored);
}

TEST_CASE("a factor that is whole, or that the axis does not divide, is not cut") {
    Tensor x = full({8, 4}, 1), gain = full({4}, 1);
    CHECK(choose(*node_of(rms_norm(x, gain)), {shard1, whole}, {2}).factor == -1);
    CHECK(choose(*node_of(rms_norm(x, gain)), {shard0, whole}, {2}).factor >= 0);
    CHECK(choose(*node_of(silu(x)), {stored1}, {3}).factor == -1);
    // Another axis has cut the dim before.
    auto n = node_of(silu(x));
    CHECK(choose(*n, {stored1}, {2, {1, 2}}).factor >= 0);
    CHECK(choose(*n, {stored1}, {2, {1, 4}}).factor == -1);
}

TEST_CASE("what is stored cuts no sum where bits must not depend on it") {
    Tensor x = full({8, 4}, 1);
    CHECK(choose(*node_of(sum(x, {0})), {stored0}, {2}).outputs[0] == AxisLayout::partial());
    CHECK(choose(*node_of(sum(x, {0})), {stored0}, {2, {}, {}, true}).factor == -1);
    CHECK(choose(*node_of(sum(x, {0})), {shard0}, {2, {}, {}, true}).factor >= 0);
    CHECK(choose(*node_of(linear(x, full({6, 4}, 1))), {stored0, whole}, {2, {}, {}, true}).factor == -1);
    CHECK(choose(*node_of(silu(x)), {stored0}, {2, {}, {}, true}).factor >= 0);
}

TEST_CASE("shard lines that cannot hold are refused, with op, dim and line") {
    std::vector<std::string> lines{"shard a tensor 0", "shard b tensor 0"};
    Scope scope("blocks.1.mlp");
    auto x = full({8, 6}, 1), w = full({6, 6}, 1);
    auto n = node_of(linear(x, w));
    auto first = AxisLayout::shard(0, false, 0), second = AxisLayout::shard(0, false, 1);
    CHECK_THROWS_WITH(
        choose(*n, {first, second}, {2, {}, lines}),
        ContainsSubstring("product in blocks.1.mlp: one mesh axis cannot cut both dim 0 of input 0, "
                          "f32[8, 6] by the plan's \"shard a tensor 0\" and dim 0 of input 1") &&
            ContainsSubstring("\"shard b tensor 0\""));
    CHECK_THROWS_WITH(choose(*n, {whole, second}, {4, {}, lines}),
                      ContainsSubstring("4 ranks do not divide dim 0 of input 1, f32[6, 6] by the plan's"));
}

TEST_CASE("blocks come of variables, batches and what is made from them") {
    Laid l({"shard w data 1"}, [](Tensor const& w, Tensor const&) { return exp(w * 2.0); });
    CHECK(l.layouts.held.at(l.w->source)[1] == shard1);
    // The result is gathered for whoever reads it.
    CHECK(count<AllGather>(l.local.graph) == 1);
    CHECK(l.local.graph.outputs[0].value.meta().shape == Shape{8, 4});
    for (auto const& n : l.local.graph.nodes)
        if (n->op.as<Unary>()) CHECK(n->outputs[0].shape == Shape{8, 2});
}

TEST_CASE("addends are summed up where they are made, into the layout that readers wish") {
    auto gradient = [](Tensor const& w, Tensor const& x) {
        Tensor g = product(ProductForm::tn, x, x);  // [4, 4], a sum over the batch
        return w - reshape(concat({g, g}, 0), Shape{8, 4});
    };
    Laid reduced({}, [](Tensor const& w, Tensor const& x) { return w * sum(x, {0}); });
    CHECK(count<AllReduce>(reduced.local.graph) == 1);
    Laid scattered(
        {"store w data 1 of parameter"}, [](Tensor const& w, Tensor const& x) { return w * sum(x, {0}); },
        true);
    CHECK(count<AllReduce>(scattered.local.graph) == 0);
    CHECK(count<ReduceScatter>(scattered.local.graph) == 1);
    CHECK(scattered.local.graph.updates[0].value.meta().shape == Shape{8, 2});
    // A wish does not go through what is no elementwise op.
    Laid blocked({"store w data 1 of parameter"}, gradient, true);
    CHECK(count<AllReduce>(blocked.local.graph) == 1);
}

TEST_CASE("wishes go backwards through what may be cut, and no further") {
    Laid l(
        {"store w data 1 of parameter"},
        [](Tensor const& w, Tensor const& x) {
            Tensor a = exp(x), b = softmax(a);
            return w + b * 2.0;
        },
        true);
    auto wish = wishes(l.graph, l.lines, l.mesh);
    int on_softmax = 0, on_exp = 0;
    for (auto const& [v, layout] : wish) {
        if (v.node->op.as<Softmax>()) on_softmax += layout[1] == stored1;
        if (v.node->op.as<Unary>()) on_exp += layout[1].is_shard();
    }
    CHECK(on_softmax == 1);
    CHECK(on_exp == 0);
}

TEST_CASE("what is stored divided is gathered for its reader, again for another module") {
    auto reads = [](Tensor const& w, Tensor const& x) {
        Tensor y;
        {
            Scope scope("a", true);
            y = linear(x, w) + linear(x * 2.0, w);
        }
        Scope scope("b", true);
        return y + linear(x * 3.0, w);
    };
    Laid stored({"store w data 0 of parameter"}, reads);
    CHECK(count<AllGather>(stored.local.graph) == 3);  // one a module, and the result
    CHECK(stored.local.repeated.size() == 4);          // two gathers and their awaits
    Laid kept({}, reads);
    CHECK(count<AllGather>(kept.local.graph) == 1);
}
