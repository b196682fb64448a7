#include "machines.hpp"

#include "cuda/host/machine.hpp"
#include "laws/sample_values.hpp"
#include "plait/exec/executor.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/parallel/loops.hpp"

#include <cstring>

// Products of one shape that follow one another in a program, as leaves of a batch do.
using namespace tests;

namespace {

constexpr std::int64_t leaves = 4, rows = 3;

struct Leaf {
    char const* name;
    AnyOp op;
    Metas in;                   // of all leaves: dim 0 is cut
    std::vector<bool> divided;  // by leaves
    int products;               // of them joined
};

std::vector<Leaf> leaf_ops(DType t) {
    auto const n = leaves * rows;
    return {
        {"nt", Product{ProductForm::nt}, {{t, {n, 2, 5}}, {t, {7, 5}}}, {true, false}, 1},
        {"nn", Product{ProductForm::nn}, {{t, {n, 7}}, {t, {7, 5}}}, {true, false}, 1},
        {"tn", Product{ProductForm::tn}, {{t, {n, 2, 7}}, {t, {n, 2, 5}}}, {true, true}, 1},
        {"two terms",
         Product{ProductForm::nt, 2},
         {{t, {n, 5}}, {t, {7, 5}}, {t, {n, 5}}, {t, {7, 5}}},
         {true, false, true, false},
         2 * leaves},
        {"bias", Linear{Epilogue::bias}, {{t, {n, 5}}, {t, {7, 5}}, {f32, {7}}}, {true, false, false}, 1},
        {"GELU", Linear{Epilogue::bias_gelu}, {{t, {n, 5}}, {t, {7, 5}}, {t, {7}}}, {true, false, false}, 1},
        {"GELU's slope",
         ProductGeluGradient{},
         {{t, {n, 7}}, {t, {7, 5}}, {t, {n, 5}}},
         {true, false, true},
         1},
        {"gradient", LinearGradient{}, {{t, {n, 2, 8}}, {t, {n, 2, 5}}}, {true, true}, 1},
        {"odd gradient", LinearGradient{}, {{t, {n, 2, 7}}, {t, {n, 2, 5}}}, {true, true}, 1},
    };
}

/// The op on every leaf, in the order given, and all results of one output side by side.
Graph graph_of(Leaf const& l, std::vector<Array> const& in, std::vector<std::int64_t> const& order) {
    auto const whole = constants(in);
    std::vector<std::vector<Value>> made(l.op.infer(l.in).size(), std::vector<Value>(leaves));
    for (auto i : order) {
        std::vector<Value> leaf;
        for (std::size_t k = 0; k < in.size(); ++k) {
            auto const each = l.in[k].shape[0] / leaves;
            leaf.push_back(l.divided[k] ? Value{record(Part{0, i * each, each}, {whole[k].value()}), 0}
                                        : whole[k].value());
        }
        auto const node = record(l.op, std::move(leaf));
        for (std::size_t o = 0; o < made.size(); ++o)
            made[o][static_cast<std::size_t>(i)] = {node, static_cast<int>(o)};
    }
    std::vector<Output> outputs;
    for (auto const& all : made) outputs.push_back({"", {record(Join{0}, all), 0}});
    return Graph::of(std::move(outputs));
}

struct Ran {
    std::vector<std::vector<Array>> steps;
    std::int64_t products = 0;  // of the first step
};
Ran run(Graph const& graph, cuda::Order order) {
    auto machine =
        std::make_shared<cuda::HostMachine>(cuda::HostOptions{.order = order, .fixed_algorithms = true});
    auto const backend = cuda::make_backend(machine);
    Executor executor(emit(cut_loops(graph, 1), *backend, {}), std::make_shared<State>(backend),
                      std::make_shared<Scratch>(backend));
    Ran ran;
    for (int step = 0; step < 3; ++step) {
        ran.steps.emplace_back();
        for (auto& [name, a] : executor.run({}, {})) ran.steps.back().push_back(a);
        if (step == 0) ran.products = machine->products();
    }
    return ran;
}

}  // namespace

TEST_CASE("leaves side by side are one product of a batch, and each has the bits that it has alone") {
    for (auto t : {f32, bf16})
        for (auto const& l : leaf_ops(t)) {
            CAPTURE(l.name, name_of(t));
            Sample s{l.name, l.op, {}};
            for (auto const& m : l.in) s.in.push_back(any(m.shape));
            auto in = inputs_of(s, t, 5);
            for (std::size_t k = 0; k < in.size(); ++k)
                if (in[k].meta().dtype != l.in[k].dtype) in[k] = inputs_of(s, l.in[k].dtype, 5)[k];
            auto const joined = run(graph_of(l, in, {0, 1, 2, 3}), cuda::Order::forward);
            // In this order no two leaves are as far apart as the first two.
            auto const apart = run(graph_of(l, in, {2, 0, 3, 1}), cuda::Order::backward);
            CHECK(joined.products == l.products);
            CHECK(apart.products == leaves * (l.products > 1 ? l.products / leaves : 1));
            for (std::size_t o = 0; o < joined.steps[0].size(); ++o)
                for (int step = 0; step < 3; ++step) {
                    auto const bytes = joined.steps[0][o].bytes();
                    auto at = [&](Ran const& r) {
                        return r.steps[static_cast<std::size_t>(step)][o].bytes().data();
                    };
                    CHECK(std::memcmp(at(joined), bytes.data(), bytes.size()) == 0);
                    CHECK(std::memcmp(at(apart), bytes.data(), bytes.size()) == 0);
                }
        }
}
