#include "catch.hpp"
#include "laws/sample_values.hpp"
#include "plait/autograd/gradients.hpp"
#include "plait/core/random.hpp"
#include "plait/exec/executor.hpp"
#include "plait/parallel/loops.hpp"
#include "plait/passes/lower.hpp"
#include "plait/train/compile.hpp"

#include <algorithm>
#include <cmath>
#include <set>

using namespace plait;
using namespace tests;

namespace {

std::vector<Array> by_kernel(AnyOp const& op, std::vector<Array> const& in) {
    return evaluate(apply(op, constants(in)));
}

/// What a GPU's library makes in one go; the CPU runs what it means.
bool is_of_gpus(AnyOp const& op) { return op.as<LinearGradient>() != nullptr; }

}  // namespace

TEST_CASE("every op of the table has a kernel, and what is inferred is what it gives") {
    auto table = cpu_backend(1)->kernels();
    for (auto const& s : tests::samples()) {
        CAPTURE(s.name);
        REQUIRE((is_of_gpus(s.op) ? s.op.has_define() : find_kernel(table, s.op.name()) != nullptr));
        auto in = inputs_of(s, f64, 1);
        auto out = by_kernel(s.op, in);
        auto metas = s.op.infer(s.metas());
        REQUIRE(out.size() == metas.size());
        for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i].meta() == metas[i]);
    }
}

TEST_CASE("every kernel of the table has a sample") {
    std::set<std::string_view> sampled;
    for (auto const& s : tests::samples()) sampled.insert(s.op.name());
    for (auto const& row : cpu_backend(1)->kernels()) {
        CAPTURE(row.op);
        // The loop's borders are tested with the loops.
        if (row.op.substr(0, 6) != "micro_") CHECK(sampled.contains(row.op));
    }
}

TEST_CASE("kernels agree with the definitions") {
    int seen = 0;
    for (auto const& s : tests::samples()) {
        if (!s.op.has_define()) continue;
        CAPTURE(s.name);
        for (auto [dtype, bound] : {std::pair{f64, 1e-11}, std::pair{f32, 2e-5}, std::pair{bf16, 3e-2}}) {
            auto in = inputs_of(s, dtype, 2);
            if (!takes(s, in)) continue;
            CAPTURE(name_of(dtype));
            auto exact = evaluate(s.op.define(constants(widened(in))));
            CHECK(error(by_kernel(s.op, in), exact) < bound);
            ++seen;
        }
    }
    CHECK(seen > 90);
}

TEST_CASE("a kernel that is off is noticed") {
    for (auto const& s : tests::samples()) {
        if (!s.op.has_define() || !is_floating(s.op.infer(s.metas())[0].dtype)) continue;
        CAPTURE(s.name);
        auto in = inputs_of(s, f64, 2);
        auto exact = evaluate(s.op.define(constants(in)));
        auto out = by_kernel(s.op, in);
        out[0].values<double>()[0] += 1e-6 * std::max(1.0, std::abs(out[0].at(0))) * 100;
        CHECK(error(out, exact) > 1e-11);
    }
}

TEST_CASE("gradients by the kernels agree with central differences") {
    int seen = 0;
    for (auto const& s : tests::samples()) {
        auto metas = s.op.infer(s.metas());
        bool any = std::any_of(s.in.begin(), s.in.end(), [](auto const& i) { return i.differentiable; });
        if (!any || s.outputs.empty() || (!s.op.has_vjp() && !s.op.has_define()) ||
            !is_floating(metas[0].dtype))
            continue;
        // The optimizer's step and the fused loss step are not differentiated.
        if (s.op.name() == "adamw" || s.op.name() == "linear_cross_entropy_step") continue;
        CAPTURE(s.name);
        auto in = inputs_of(s, f64, 3);
        // One scalar: every output that has a cotangent, weighted.
        auto scalar = [&](Tensors const& x) {
            auto y = apply(s.op, x);
            Tensor total;
            for (int o : s.outputs) {
                Tensor one = y[static_cast<std::size_t>(o)];
                Array w({f64, one.shape()});
                Random random{9, static_cast<std::uint64_t>(o), 0};
                for (std::int64_t e = 0; e < w.meta().elements(); ++e)
                    w.values<double>()[static_cast<std::size_t>(e)] =
                        random.normal(static_cast<std::uint64_t>(e));
                Tensor part = sum(one * Tensor(w));
                total = total ? total + part : part;
            }
            return total;
        };
        auto x = constants(in);
        Tensors wanted;
        std::vector<std::size_t> which;
        for (std::size_t i = 0; i < in.size(); ++i)
            if (s.in[i].differentiable) wanted.push_back(x[i]), which.push_back(i);
        Tensors dx = gradients(scalar(x), wanted);
        double scale = 1e-3;
        Tensors probes;
        std::vector<double> slopes;
        double const h = 1e-5;
        for (std::size_t k = 0; k < which.size(); ++k) {
            if (!dx[k]) continue;
            Array slope = evaluate(dx[k]);
            auto n = in[which[k]].meta().elements();
            for (std::int64_t e = 0; e < n; e += std::max<std::int64_t>(n / 7, 1)) {
                for (double sign : {1.0, -1.0}) {
                    auto moved = in;
                    moved[which[k]] =
                        Array(in[which[k]].shape(), std::span<double const>(in[which[k]].values<double>()));
                    moved[which[k]].values<double>()[static_cast<std::size_t>(e)] += sign * h;
                    probes.push_back(scalar(constants(moved)));
                }
                slopes.push_back(slope.at(e));
                scale = std::max(scale, std::abs(slope.at(e)));
            }
        }
        auto y = evaluate(probes);
        auto largest_error = [&] {
            double worst = 0;
            for (std::size_t k = 0; k < slopes.size(); ++k)
                worst =
                    std::max(worst, std::abs(slopes[k] - (y[2 * k].item() - y[2 * k + 1].item()) / (2 * h)));
            return worst / scale;
        };
        CHECK(largest_error() < 1e-6);
        // The control: one slope, off by a ten-thousandth.
        slopes.back() += 1e-4 * scale;
        CHECK(largest_error() > 1e-6);
        ++seen;
    }
    CHECK(seen > 70);
}

TEST_CASE("kernels give the same bits for any number of workers") {
    for (auto const& s : tests::samples()) {
        CAPTURE(s.name);
        if (is_of_gpus(s.op)) continue;
        for (auto dtype : {f32, bf16}) {
            auto in = inputs_of(s, dtype, 4);
            if (!takes(s, in)) continue;
            std::vector<Array> first;
            for (int workers : {1, 2, 4}) {
                auto backend = cpu_backend(workers);
                std::vector<Output> outputs;
                for (auto const& t : apply(s.op, constants(in))) outputs.push_back({"", t.value()});
                Executor executor(emit(cut_loops(Graph::of(outputs), 1), *backend, {}),
                                  std::make_shared<State>(backend), std::make_shared<Scratch>(backend));
                std::vector<Array> out;
                for (auto& [name, a] : executor.run({}, {})) out.push_back(a);
                if (first.empty()) first = out;
                for (std::size_t i = 0; i < out.size(); ++i)
                    CHECK(std::memcmp(out[i].bytes().data(), first[i].bytes().data(),
                                      out[i].bytes().size()) == 0);
            }
        }
    }
}
