#include "machines.hpp"

#include "cuda/host/machine.hpp"
#include "laws/sample_values.hpp"
#include "plait/exec/executor.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/trace.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/parallel/loops.hpp"

#include <cstring>
#include <functional>

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

struct Widths {
    std::int64_t rows, k, n, even;
};
std::vector<Leaf> leaf_ops(DType t, Widths const& w) {
    auto const all = leaves * w.rows;
    Meta const x{t, {all, w.k}}, y{t, {all, w.n}}, weight{t, {w.n, w.k}};
    Meta const two_x{t, {all, 2, w.k}}, two_y{t, {all, 2, w.n}}, even{t, {all, 2, w.even}};
    std::vector<bool> const first{true, false}, both{true, true};
    AnyOp const nt = Product{ProductForm::nt}, nn = Product{ProductForm::nn}, tn = Product{ProductForm::tn};
    return {
        {"nt", nt, {two_x, weight}, first, 1},
        {"nn", nn, {y, weight}, first, 1},
        {"tn", tn, {two_y, two_x}, both, 1},
        {"two terms",
         Product{ProductForm::nt, 2},
         {x, weight, x, weight},
         {true, false, true, false},
         2 * leaves},
        {"bias", Linear{Epilogue::bias}, {x, weight, {f32, {w.n}}}, {true, false, false}, 1},
        {"GELU", Linear{Epilogue::bias_gelu}, {x, weight, {t, {w.n}}}, {true, false, false}, 1},
        {"GELU's slope", ProductGeluGradient{}, {y, weight, x}, {true, false, true}, 1},
        {"gradient", LinearGradient{}, {even, two_x}, both, 1},
        {"odd gradient", LinearGradient{}, {two_y, two_x}, both, 1},
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

using Steps = std::vector<std::vector<Array>>;
/// What three steps give.
Steps run(Graph const& graph, std::shared_ptr<Backend> backend,
          std::function<void()> const& after_first = {}) {
    Executor executor(emit(cut_loops(graph, 1), *backend, {}), std::make_shared<State>(backend),
                      std::make_shared<Scratch>(backend));
    Steps steps(3);
    for (auto& step : steps) {
        for (auto& [name, a] : executor.run({}, {})) step.push_back(a);
        if (&step == &steps.front() && after_first) after_first();
    }
    return steps;
}

struct Ran {
    Steps steps;
    std::int64_t products = 0;  // of the first step
};
Ran run_on_host(Graph const& graph, cuda::Order order) {
    auto machine =
        std::make_shared<cuda::HostMachine>(cuda::HostOptions{.order = order, .fixed_algorithms = true});
    Ran ran;
    ran.steps = run(graph, cuda::make_backend(machine), [&] { ran.products = machine->products(); });
    return ran;
}

std::vector<Array> values_of_leaf(Leaf const& l) {
    auto const of = [&](DType t) {
        Sample s{l.name, l.op, {}};
        for (auto const& m : l.in) s.in.push_back(any(m.shape));
        return inputs_of(s, t, 5);
    };
    auto in = of(l.in[0].dtype);
    for (std::size_t k = 0; k < in.size(); ++k)
        if (in[k].meta().dtype != l.in[k].dtype) in[k] = of(l.in[k].dtype)[k];
    return in;
}

/// All steps of both give the bits of the first.
void check_same(Steps const& one, Steps const& other) {
    for (std::size_t o = 0; o < one[0].size(); ++o)
        for (auto const* steps : {&one, &other})
            for (auto const& step : *steps) {
                auto const want = one[0][o].bytes(), got = step[o].bytes();
                CHECK(std::memcmp(got.data(), want.data(), want.size()) == 0);
            }
}

// In the second order no two leaves that follow are as far apart as the first two.
std::vector<std::int64_t> const in_order{0, 1, 2, 3}, mixed{2, 0, 3, 1};

}  // namespace

TEST_CASE("leaves side by side are one product of a batch, of what each is alone") {
    for (auto t : {f32, bf16})
        for (auto const& l : leaf_ops(t, {rows, 5, 7, 8})) {
            CAPTURE(l.name, name_of(t));
            auto const in = values_of_leaf(l);
            auto const joined = run_on_host(graph_of(l, in, in_order), cuda::Order::forward),
                       apart = run_on_host(graph_of(l, in, mixed), cuda::Order::backward);
            CHECK(joined.products == l.products);
            CHECK(apart.products == leaves * (l.products > 1 ? l.products / leaves : 1));
            check_same(joined.steps, apart.steps);
        }
}

TEST_CASE("leaves on a GPU have in a batch the bits that they have alone") {
    auto const gpu = gpu_device();
    for (auto t : {f32, bf16})
        for (Widths const& w :
             {Widths{rows, 5, 7, 8}, {512, 768, 768, 768}, {512, 768, 2304, 1536}, {384, 96, 200, 40}})
            for (auto const& l : leaf_ops(t, w)) {
                CAPTURE(l.name, name_of(t), w.rows, w.k, w.n);
                auto const in = values_of_leaf(l);
                check_same(run(graph_of(l, in, in_order), gpu), run(graph_of(l, in, mixed), gpu));
            }
}
