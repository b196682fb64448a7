#include "catch.hpp"
#include "plait/plait.hpp"

#include <cmath>
#include <limits>

using namespace plait;

TEST_CASE("cosine: warm-up, peak, floor") {
    auto c = optim::cosine(1.0, 10, 110, 0.1);
    CHECK(c(1) == Approx(0.1));
    CHECK(c(10) == Approx(1.0));
    CHECK(c(60) == Approx(0.55));
    CHECK(c(110) == Approx(0.1));
    CHECK(c(500) == Approx(0.1));
    CHECK_THROWS_AS(optim::cosine(1, 20, 10), UsageError);
}

TEST_CASE("weights decay by glob: the last match counts, biases and norms are left out") {
    optim::AdamW adam;
    CHECK(adam.decays_at("blocks.0.mlp.up.weight"));
    CHECK(adam.decays_at("tokens.weight"));
    CHECK_FALSE(adam.decays_at("blocks.0.mlp.up.bias"));
    CHECK_FALSE(adam.decays_at("blocks.0.attention_norm.weight"));
    CHECK_FALSE(adam.decays_at("norm.weight"));
    adam.decays = "**, !tokens.weight";
    CHECK(adam.decays_at("norm.weight"));
    CHECK_FALSE(adam.decays_at("tokens.weight"));
}

namespace {
struct Pair {
    nn::Parameter a{Shape{1}, Init::ones()}, b{Shape{1}, Init::zeros()};
    using fields = Fields<&Pair::a, &Pair::b>;
};
struct Point {
    nn::Parameter weight{Shape{4}, Init::ones()};
    using fields = Fields<&Point::weight>;
};

/// One compiled step of (sum of (weight * x)^2), clipped at `limit` unless 0.
Step point_step(Point& p, optim::AdamW& adam, std::shared_ptr<State> s, double limit) {
    return compile(Plan(), s, {{"x", {f32, {4}}}}, [&](Batch const& b) -> Row {
        auto [loss, g] = value_and_gradients(p, [&] { return sum(square(p.weight * b["x"])); });
        Tensor norm = limit > 0 ? clip_norm(g, limit) : gradient_norm({g.entries[0].second});
        adam.update(p, g);
        return {{"loss", loss}, {"grad_norm", norm}};
    });
}
Array numbers(std::vector<float> x) { return Array(Shape{4}, x); }
}  // namespace

TEST_CASE("AdamW steps as written down in the paper") {
    Point p;
    optim::AdamW adam{.rate = 0.1, .weight_decay = 0.5};
    auto s = state(p, adam);
    auto step = point_step(p, adam, s, 0);
    double w = 1, m = 0, v = 0;
    for (int t = 1; t <= 3; ++t) {
        step({{"x", numbers({3, 3, 3, 3})}});
        double g = 2 * w * 9;
        m = 0.9 * m + 0.1 * g;
        v = 0.95 * v + 0.05 * g * g;
        w -= 0.1 * (m / (1 - std::pow(0.9, t)) / (std::sqrt(v / (1 - std::pow(0.95, t))) + 1e-8) + 0.5 * w);
        CHECK(s->read(*p.weight.variable).at(2) == Approx(w).epsilon(1e-5));
    }
}

TEST_CASE("clipping gives the norm before it and scales what is above the limit") {
    Point p;
    optim::AdamW adam{.rate = 0.0};
    auto s = state(p, adam);
    auto step = point_step(p, adam, s, 1.0);
    auto row = step({{"x", numbers({1, 0, 0, 2})}});
    CHECK(row[1].second.item() == Approx(std::sqrt(4.0 + 64.0)));
    auto m = s->read(*adam.moments.at(p.weight.variable).m);
    CHECK(m.at(3) == Approx(0.1 * 8 / std::sqrt(68.0)).epsilon(1e-4));
}

TEST_CASE("a step that is not finite stores nothing") {
    Point p;
    optim::AdamW adam{.rate = 0.1};
    auto s = state(p, adam);
    for (double limit : {0.0, 1.0}) {
        auto step = point_step(p, adam, s, limit);
        step({{"x", numbers({1, 1, 1, 1})}});
        auto before = s->parameter_hash();
        auto row = step({{"x", numbers({1, std::numeric_limits<float>::quiet_NaN(), 1, 1})}});
        CHECK(std::isnan(row[0].second.item()));
        CHECK(s->parameter_hash() == before);
        step({{"x", numbers({1, std::numeric_limits<float>::infinity(), 1, 1})}});
        CHECK(s->parameter_hash() == before);
        step({{"x", numbers({1, 1, 1, 1})}});
        CHECK(s->parameter_hash() != before);
    }
}

TEST_CASE("updates read the values from before the step, whatever the order") {
    Pair m;
    auto s = state(m);
    auto step = compile(Plan(), s, {}, [&](Batch const&) -> Row {
        // Swap: each new value is the other's old one.
        Tensor a = m.a, b = m.b;
        assign(*m.a.variable, b + 0.0);
        assign(*m.b.variable, a);
        return {{"sum", sum(a + b)}};
    });
    step({});
    CHECK(s->read(*m.a.variable).item() == 0);
    CHECK(s->read(*m.b.variable).item() == 1);
}

TEST_CASE("a variable that is assigned but not in the state is an error, and the next recording is clean") {
    Point p, other;
    optim::AdamW adam;
    auto s = state(p);
    CHECK_THROWS_WITH(point_step(p, adam, s, 1.0),
                      ContainsSubstring("optimizer.m.weight") && ContainsSubstring("not in its state"));
    auto whole = state(other, adam);
    CHECK_NOTHROW(point_step(other, adam, whole, 1.0));
}
