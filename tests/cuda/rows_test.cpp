#include "cuda/rows.hpp"

#include "catch.hpp"
#include "laws/sample_values.hpp"
#include "machines.hpp"
#include "plait/exec/executor.hpp"
#include "plait/parallel/loops.hpp"
#include "plait/passes/lower.hpp"
#include "plait/train/compile.hpp"

#include <cstring>
#include <set>

using namespace tests;

namespace {

/// What three steps give: asked for op by op, recorded, and replayed.
std::vector<std::vector<Array>> three_steps(Sample const& s, std::vector<Array> const& in,
                                            std::shared_ptr<Backend> backend) {
    std::vector<Output> outputs;
    for (auto const& t : apply(s.op, constants(in))) outputs.push_back({"", t.value()});
    auto graph = expand_definitions(Graph::of(outputs), [&](std::string_view op) {
        return find_kernel(backend->kernels(), op) != nullptr;
    });
    Executor executor(emit(cut_loops(graph, 1), *backend, {}), std::make_shared<State>(backend),
                      std::make_shared<Scratch>(backend));
    std::vector<std::vector<Array>> steps(3);
    for (auto& out : steps)
        for (auto& [name, a] : executor.run({}, {})) out.push_back(a);
    return steps;
}

bool same(std::vector<Array> const& a, std::vector<Array> const& b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (std::memcmp(a[i].bytes().data(), b[i].bytes().data(), a[i].bytes().size()) != 0) return false;
    return true;
}

/// Shapes that several tiles and rows of a kernel make, which the samples of all ops are too small for.
std::vector<Sample> large_samples() {
    std::vector<Sample> s;
    struct Heads {
        std::int64_t length, keys, heads, kv_heads, dim;
    };
    for (auto const& h : {Heads{130, 130, 2, 2, 64}, {70, 70, 1, 1, 128}, {40, 72, 4, 2, 80}})
        for (bool causal : {true, false}) {
            auto const name =
                fmt::format("{} attention of {} x {}", causal ? "causal" : "whole", h.length, h.dim);
            auto q = any({1, h.length, h.heads, h.dim}), k = any({1, h.keys, h.kv_heads, h.dim});
            s.push_back({name, Attention{causal}, {q, k, k}});
            SampleInput lse{{f64, {1, h.heads, h.length}}, 4, 5};
            s.push_back(
                {name + ", gradient", AttentionGradient{causal}, {q, k, k, q, wide(lse), q}, {0, 1, 2}});
        }
    for (std::int64_t classes : {33001, 70000})
        s.push_back({fmt::format("loss of {} classes", classes),
                     CrossEntropy{},
                     {any({3, classes}), indices({3}, -1, 33000)},
                     {0, 1}});
    return s;
}

/// Holds what devices give for every sample to the CPU's kernels in f64. The first device tells the bits.
void check_rows(std::vector<std::shared_ptr<Backend>> const& devices, std::vector<Sample> const& of,
                int least) {
    int seen = 0;
    for (auto const& s : of) {
        CAPTURE(s.name);
        for (auto [dtype, bound] : {std::pair{f32, 2e-5}, std::pair{bf16, 3e-2}}) {
            auto in = inputs_of(s, dtype, 2);
            if (!takes(s, in)) continue;
            bool wide = false;  // f64 by an attribute, which a GPU does not have
            for (auto const& t : apply(s.op, constants(in))) wide = wide || t.dtype() == f64;
            if (wide) continue;
            CAPTURE(name_of(dtype));
            auto want = evaluate(apply(s.op, constants(widened(in))));
            std::vector<Array> first;
            for (auto const& device : devices) {
                auto got = three_steps(s, in, device);
                if (first.empty()) first = got[0];
                CHECK(error(got[0], want) < bound);
                for (auto const& step : got) CHECK(same(step, first));
            }
            ++seen;
        }
    }
    CHECK(seen >= least);
}

}  // namespace

TEST_CASE("rows give what the CPU's kernels give, recorded or not, in both orders of blocks and streams") {
    check_rows({host_device(), host_device(cuda::Order::backward)}, samples(), 150);
}

TEST_CASE("rows of large shapes give what the CPU's kernels give, recorded or not") {
    check_rows({host_device()}, large_samples(), 28);
}

TEST_CASE("rows give on a GPU what the CPU's kernels give, recorded or not") {
    check_rows({gpu_device()}, samples(), 150);
    check_rows({gpu_device()}, large_samples(), 28);
}

TEST_CASE("a GPU's library attends as the CPU does, and twice alike") {
    auto const gpu = gpu_device({}, true);
    for (std::int64_t dim : {64, 128})
        for (std::int64_t kv_heads : {4, 2})
            for (auto [causal, length] :
                 {std::pair<bool, std::int64_t>{false, 256}, {true, 256}, {false, 192}, {true, 192}}) {
                CAPTURE(dim, kv_heads, causal, length);
                Sample s{"attention", Attention{causal}, {}};
                for (auto heads : {std::int64_t{4}, kv_heads, kv_heads, std::int64_t{4}})
                    s.in.push_back(any({2, length, heads, dim}));
                auto x = inputs_of(s, bf16, 3);
                auto values = [&](std::shared_ptr<Backend> backend) {
                    auto in = constants(x);
                    auto y = apply(Attention{causal}, {in[0], in[1], in[2]});
                    auto d = apply(AttentionGradient{causal}, {in[0], in[1], in[2], y[0], y[1], in[3]});
                    return evaluate({y[0], y[1], d[0], d[1], d[2]}, std::move(backend));
                };
                auto const got = values(gpu);
                CHECK(error(got, values(cpu_backend(1))) < 3e-2);
                CHECK(same(got, values(gpu)));
            }
}

TEST_CASE("a GPU has rows for all ops that the CPU has kernels for") {
    auto own = cuda::rows();
    std::set<std::string_view> missing;
    for (auto const& row : cpu_backend(1)->kernels())
        if (!find_kernel(own, row.op)) missing.insert(row.op);
    CHECK(missing == std::set<std::string_view>{});
}
