#include "plait/parallel/leaves.hpp"
#include "catch.hpp"
#include "plait/graph/parts.hpp"
#include "plait/plait.hpp"

using namespace plait;

namespace {

/// A sum over the batch as text, "((0+1)+(2+3))": leaves by number.
std::string text_of(Value const& v) {
    if (auto const* p = v.node->op.as<Part>()) return std::to_string(p->start / p->length);
    if (v.node->inputs.size() == 1) return text_of(v.node->inputs[0]);
    return "(" + text_of(v.node->inputs[0]) + "+" + text_of(v.node->inputs[1]) + ")";
}

/// Cuts blocks off, and takes no notes.
LeafHost cutting() {
    return {[](Value const& v, int dim, std::int64_t i, std::int64_t n) {
                auto length = v.meta().shape[dim] / n;
                return Value{record(Part{dim, i * length, length}, {v}), 0};
            },
            [](Value const&, int, int, std::int64_t) {}};
}

struct Run {
    std::vector<std::vector<Value>> made;
    std::vector<Value> in;
};

/// The sum over the batch of f32[16, 3], leaf by leaf.
Run sum_in_leaves(Leaves const& leaves) {
    Tensor x = batch_input("x", {f32, {16, 3}});
    Run run;
    run.in = {x.value()};
    NodeLayout layout{0, {AxisLayout::shard(0)}, {AxisLayout::partial()}};
    run.made = run_in_leaves(Reduce{ReduceFn::sum, {0}}, run.in, {{f32, {3}}}, layout, leaves, cutting());
    return run;
}

}  // namespace

TEST_CASE("leaves of a micro-batch, and how long a chain in time is") {
    struct Row {
        Granularity g;
        std::int64_t pieces, count, chain, links, time_chain;
    };
    for (auto const& r :
         {Row{{8, 8, 2}, 1, 8, 1, 1, 1}, Row{{8, 8, 2}, 8, 1, 1, 1, 1}, Row{{8, 2, 2}, 1, 8, 4, 1, 1},
          Row{{8, 2, 2}, 2, 4, 4, 1, 1}, Row{{8, 2, 2}, 4, 2, 4, 2, 4}, Row{{8, 2, 2}, 8, 1, 4, 1, 4},
          Row{{16, 4, 1}, 8, 2, 4, 2, 4}}) {
        auto leaves = Leaves::of(r.g, r.pieces);
        CAPTURE(r.g.batch, r.g.data, r.pieces);
        CHECK(leaves.count == r.count);
        CHECK(leaves.chain == r.chain);
        CHECK(leaves.links() == r.links);
        CHECK(leaves.time_chain() == r.time_chain);
        // Every leaf comes in once.
        CHECK(leaves.count * r.pieces == r.g.batch);
    }
}

TEST_CASE("leaves are added up in chains, and chains in a tree") {
    auto text = [](Leaves leaves) {
        std::string all;
        auto run = sum_in_leaves(leaves);
        for (auto const& v : run.made[0]) all += (all.empty() ? "" : " ") + text_of(v);
        return all;
    };
    CHECK(text({8, 1}) == "(((0+1)+(2+3))+((4+5)+(6+7)))");
    CHECK(text({4, 2}) == "((0+1)+(2+3))");
    CHECK(text({8, 4}) == "((((0+1)+2)+3)+(((4+5)+6)+7))");
    CHECK(text({4, 4}) == "(((0+1)+2)+3)");
    CHECK(text({2, 4}) == "0 1");  // links of a chain in time
}

TEST_CASE("what sums over the batch, or depends on its shape, runs in leaves") {
    Tensor x = batch_input("x", {f32, {8, 4}}), w = full({3, 4}, 1), ids = batch_input("ids", {i32, {8}});
    auto leafy = [](Tensor const& y) {
        Node const& n = *y.value().node;
        std::vector<AxisLayout> in(n.inputs.size());
        for (std::size_t i = 0; i < in.size(); ++i)
            if (n.inputs[i].meta().shape.rank() && n.inputs[i].meta().shape[0] == 8)
                in[i] = AxisLayout::shard(0);
        return needs_leaves(n, choose(n, in, {2}));
    };
    CHECK(leafy(sum(x, {0})));
    CHECK(leafy(linear(x, w)));
    CHECK(!leafy(silu(x)));
    CHECK(!leafy(sum(x, {1})));
    CHECK(!leafy(sum(ids, {0})));  // integers add up in any order
    CHECK(!leafy(embedding(ids, full({9, 4}, 1))));
    CHECK(!leafy(full({8}, 1)));
}

TEST_CASE("what has the batch is put together from its leaves") {
    Tensor x = batch_input("x", {f32, {8, 4}}), w = full({3, 4}, 1);
    auto node = linear(x, w).value().node;
    NodeLayout layout = choose(*node, {AxisLayout::shard(0), {}}, {4});
    auto made = run_in_leaves(node->op, node->inputs, node->outputs, layout, {4, 1}, cutting());
    REQUIRE(made[0].size() == 1);
    auto const& join = *made[0][0].node;
    CHECK(join.op.as<Join>() != nullptr);
    REQUIRE(join.inputs.size() == 4);
    CHECK(join.inputs[2].meta().shape == Shape{2, 3});
    CHECK(made[0][0].meta() == node->outputs[0]);
}
