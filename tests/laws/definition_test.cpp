#include "catch.hpp"
#include "laws/reference.hpp"

using namespace tests;

namespace {

/// sum(y * w) over the outputs that may have a cotangent, with fixed weights.
double weighted(Sample const& s, std::vector<Numbers> const& x, std::vector<Numbers> const& w) {
    Reference run;
    Tensors in;
    for (auto const& n : x) in.push_back(run.bind(n));
    auto y = apply(s.op, in);
    double total = 0;
    for (std::size_t k = 0; k < s.outputs.size(); ++k) {
        auto const& v = run(y[static_cast<std::size_t>(s.outputs[k])]).values;
        for (std::size_t i = 0; i < v.size(); ++i) total += v[i] * w[k].values[i];
    }
    return total;
}

/// The largest difference between vjp and central differences, relative to the largest slope; `off` is added
/// to each slope, to show that it is noticed.
double gradient_error(Sample const& s, double off = 0) {
    auto x = random_inputs(s, 1);
    auto out = s.op.infer(s.metas());
    Sample weights{s.name + " weights", s.op, {}};
    for (int k : s.outputs) weights.in.push_back({out[static_cast<std::size_t>(k)]});
    auto w = random_inputs(weights, 2);

    Reference run;
    Tensors in, dy(out.size());
    for (auto const& n : x) in.push_back(run.bind(n));
    for (std::size_t k = 0; k < w.size(); ++k) dy[static_cast<std::size_t>(s.outputs[k])] = run.bind(w[k]);
    auto dx = s.op.vjp(in, apply(s.op, in), dy);
    REQUIRE(dx.size() == in.size());
    double error = 0, scale = 1e-3;
    for (std::size_t i = 0; i < in.size(); ++i) {
        CAPTURE(s.name, i);
        if (!s.in[i].differentiable) {
            CHECK(!dx[i]);
            continue;
        }
        REQUIRE(dx[i]);
        REQUIRE(dx[i].meta() == in[i].meta());
        auto slopes = run(dx[i]).values;
        for (std::size_t e = 0; e < slopes.size(); ++e) {
            double const h = 1e-5, old = x[i].values[e];
            x[i].values[e] = old + h;
            double up = weighted(s, x, w);
            x[i].values[e] = old - h;
            double down = weighted(s, x, w);
            x[i].values[e] = old;
            error = std::max(error, std::abs(slopes[e] + off - (up - down) / (2 * h)));
            scale = std::max(scale, std::abs(slopes[e]));
        }
    }
    return error / scale;
}

bool has_smooth_gradient(Sample const& s) {
    return s.op.has_vjp() && is_floating(s.op.infer(s.metas())[0].dtype) &&
           std::any_of(s.in.begin(), s.in.end(), [](auto& i) { return i.differentiable; });
}

}  // namespace

TEST_CASE("gradients of the definitions agree with central differences") {
    int seen = 0;
    for (auto const& s : samples()) {
        if (!has_smooth_gradient(s)) continue;
        CAPTURE(s.name);
        CHECK(gradient_error(s) < 1e-6);
        ++seen;
    }
    CHECK(seen > 80);
}

TEST_CASE("a gradient that is off is noticed") {
    for (auto const& s : samples()) {
        CAPTURE(s.name);
        if (has_smooth_gradient(s)) CHECK(gradient_error(s, 1e-4) > 1e-6);
    }
}
