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

namespace {
struct Matrix {
    nn::Parameter weight{Shape{16, 16}, Init::ones()};
    nn::Parameter gain{Shape{16}, Init::ones()};
    using fields = Fields<&Matrix::weight, &Matrix::gain>;
};

/// What 200 steps of 1e-4 make of weights that begin at 1, in bf16, where values lie 2^-8 apart below it.
struct Small {
    Matrix m;
    std::shared_ptr<State> s;

    explicit Small(optim::AdamW adam, std::uint64_t seed = 1) {
        nn::keep_matrices_in(m, bf16);
        s = state(m, adam);
        s->set_seed(seed);
        auto step = compile(Plan(), s, {}, [&](Batch const&) -> Row {
            auto [loss, g] =
                value_and_gradients(m, [&] { return sum(cast(m.weight, f32)) + sum(Tensor(m.gain)); });
            adam.update(m, g);
            return {{"loss", loss}};
        });
        step.set_seed(seed);
        for (int i = 0; i < 200; ++i) step({});
    }
    double mean() const {
        auto w = s->read(*m.weight.variable);
        double sum = 0;
        for (std::int64_t i = 0; i < 256; ++i) sum += w.at(i);
        return sum / 256;
    }
};
}  // namespace

TEST_CASE("steps far below what bf16 holds apart add up in bf16 weights") {
    optim::AdamW const adam{.rate = 1e-4, .weight_decay = 0};
    Small a(adam);
    CHECK(a.m.weight.meta().dtype == bf16);
    CHECK(a.m.gain.meta().dtype == f32);
    CHECK(a.s->variables()[2]->meta.dtype == f32);
    // 200 steps of 1e-4, by each of 256 weights: off by 2^-8 * sqrt(200 * 0.026 / 256) at a deviation.
    CHECK(std::abs(a.mean() - 0.98) < 1.5e-3);
    CHECK(a.s->read(*a.m.gain.variable).at(3) == Approx(0.98).epsilon(1e-4));
    CHECK(Small(adam).s->parameter_hash() == a.s->parameter_hash());
    CHECK(Small(adam, 2).s->parameter_hash() != a.s->parameter_hash());

    Small b({.rate = 1e-4, .weight_decay = 0, .bf16_moments = bf16});
    CHECK(b.s->variables()[2]->meta.dtype == bf16);
    CHECK(std::abs(b.mean() - 0.98) < 1.5e-3);
    CHECK_THROWS_WITH(Small({.bf16_moments = f64}), ContainsSubstring("bf16_moments is f64"));
    CHECK(static_cast<float>(Bf16(1 - 1e-4f)) == 1);  // as rounding to nearest would leave them
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
