#include "plait/exec/overlap.hpp"

#include "catch.hpp"
#include "laws/ranks.hpp"
#include "plait/graph/collective.hpp"

#include <set>

using namespace plait;
using namespace tests;

namespace {

/// The nodes of a rank's step as they were recorded, all in one part.
NodeOrder recorded(int zero, std::int64_t micro = 1) {
    auto s = llama();
    s.config.layers = 4;
    Arrangement a{.data = 2, .micro = micro, .zero = zero, .bits = Bits::fast};
    auto const training = training_on(Mesh(a.sizes(), 0), s, a);
    NodeOrder order;
    for (auto const& n : training.step->dumps().sections.graph.nodes)
        if (!source_of(*n)) order.push_back(n);
    return order;
}
NodeOrder overlapped_once(NodeOrder const& order) {
    return overlapped(order, [](Node const*) { return std::pair(0, 0); });
}

/// Work between the starts of collectives that `wanted` names and the awaits of them.
template <class Wanted>
std::size_t work_behind(NodeOrder const& order, Wanted const& wanted) {
    std::size_t work = 0;
    std::set<Node const*> flying;
    for (auto const& n : order) {
        if (n->op.as<Await>()) flying.erase(n->inputs[0].node.get());
        else if (wanted(*n)) flying.insert(n.get());
        else if (!flying.empty()) ++work;
    }
    return work;
}

}  // namespace

TEST_CASE("overlap keeps every node, each after what it reads") {
    for (int zero : {0, 1, 2, 3}) {
        CAPTURE(zero);
        auto const order = recorded(zero), made = overlapped_once(order);
        std::set<Node const*> all, before;
        for (auto const& n : order) all.insert(n.get());
        REQUIRE(made.size() == order.size());
        for (auto const& n : made) {
            for (auto const& v : n->inputs) CHECK((!all.count(v.node.get()) || before.count(v.node.get())));
            CHECK(before.insert(n.get()).second);
        }
        CHECK(before == all);
        CHECK(overlapped_once(order) == made);
    }
}

TEST_CASE("work lies behind gathers of weights and behind reductions that free their gradient") {
    auto const order = recorded(3), made = overlapped_once(order);
    auto gathers = [](Node const& n) { return n.op.as<AllGather>() != nullptr; };
    auto reduces = [](Node const& n) { return n.op.as<ReduceScatter>() != nullptr; };
    CHECK(work_behind(order, gathers) == 0);
    CHECK(work_behind(made, gathers) > 100);
    CHECK(work_behind(made, reduces) > work_behind(order, reduces));
}

TEST_CASE("what only shows a reduced gradient, or adds it up, does not wait for it") {
    for (int zero : {0, 1, 2, 3})
        for (std::int64_t micro : {1, 2}) {
            CAPTURE(zero, micro);
            std::size_t most = 0, all = 0;
            std::set<Node const*> flying;
            for (auto const& n : overlapped_once(recorded(zero, micro))) {
                if (n->op.as<Await>()) flying.erase(n->inputs[0].node.get());
                if (!n->op.as<ReduceScatter>() && !n->op.as<AllReduce>()) continue;
                all += n->origin.phase == Phase::backward;
                flying.insert(n.get());
                most = std::max(most, flying.size());
            }
            // Each of the four blocks has one call for all its gradients.
            CHECK(all >= 4);
            CHECK(most >= (zero < 2 ? 4 : 2));
        }
}

TEST_CASE("what backward gathers a second time comes while the input's gradient is made") {
    auto s = llama();
    s.config.layers = 4;
    Arrangement const a{.bits = Bits::fast, .tensor = 2, .sequence = true};
    auto const t = training_on(Mesh(a.sizes(), 0), s, a);
    std::set<int> flying;
    int second = 0, behind = 0;
    for (auto const& i : t.step->program().instructions) {
        if (i.awaits >= 0) flying.erase(i.awaits);
        bool const backward = i.origin.phase == Phase::backward && i.origin.path.starts_with("blocks.");
        bool const gather = i.collective && i.collective->verb == Verb::all_gather;
        if (backward && gather && (i.origin.path.ends_with("up") || i.origin.path.ends_with(".v")))
            flying.insert(i.collective->number), ++second;
        // The products of a norm's readers give its gradient.
        if (backward && i.op.name() == "product" && i.origin.path.ends_with("_norm"))
            behind += !flying.empty();
    }
    CHECK(second == 8);
    CHECK(behind == 8);
}

TEST_CASE("in a piece of a pipeline no gather of activations waits for its reader") {
    auto s = llama();
    s.config.layers = 4;
    Arrangement const a{
        .micro = 2, .recompute = true, .bits = Bits::fast, .tensor = 2, .sequence = true, .pipeline = 2};
    auto const t = training_on(Mesh(a.sizes(), 0), s, a);
    auto const& program = t.step->program();
    int gathers = 0;
    for (auto const& piece : program.pieces) {
        int flying = 0;
        for (int i = piece.first; i < piece.last; ++i) {
            auto const& n = program.instructions[static_cast<std::size_t>(i)];
            bool const gather = n.collective && n.collective->verb == Verb::all_gather;
            gathers += gather;
            // The next one starts when the last one has been read.
            if (gather) CHECK(++flying == 1);
            else if (n.awaits >= 0 && flying) --flying;
        }
    }
    CHECK(gathers > 10);
}

TEST_CASE("parts stay apart") {
    auto const order = recorded(3);
    std::set<Node const*> first;
    for (std::size_t i = 0; i < order.size() / 2; ++i) first.insert(order[i].get());
    auto const made = overlapped(order, [&](Node const* n) { return std::pair(first.count(n) ? 0 : 1, 0); });
    for (std::size_t i = 0; i < made.size(); ++i)
        CHECK((first.count(made[i].get()) == 1) == (i < first.size()));
}
