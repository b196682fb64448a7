#include "catch.hpp"
#include "plait/plait.hpp"

#include <cmath>

using namespace plait;

namespace {
struct Two {
    nn::Parameter used{Shape{2}, Init::ones()}, unused{Shape{3}, Init::ones()};
    using fields = Fields<&Two::used, &Two::unused>;
};

Tensor vector(std::vector<double> x) { return Tensor(Array(Shape{static_cast<std::int64_t>(x.size())}, x)); }
}  // namespace

TEST_CASE("gradients of gradients") {
    Tensor x = vector({0.5, -1, 2});
    Tensor dx = gradients(sum(exp(x) * x), {x})[0];
    Tensor ddx = gradients(sum(dx), {x})[0];
    auto value = evaluate(ddx);
    for (int i = 0; i < 3; ++i) {
        double v = evaluate(x).at(i);
        CHECK(value.at(i) == Approx((v + 2) * std::exp(v)));
    }
}

TEST_CASE("a definition is differentiated for each input alone, though one was made from another") {
    // softmax_gradient has no rule of its own, and reads y and a dy made from y.
    std::vector<double> const at{0.3, -1.2, 0.7};
    auto first = [](Tensor const& x) { return gradients(sum(square(softmax(x)) * x), {x})[0]; };
    Tensor x = vector(at);
    auto second = evaluate(gradients(sum(first(x) * vector({1, 0.5, -2})), {x})[0]);
    for (std::size_t i = 0; i < 3; ++i) {
        auto along = [&](double step) {
            auto moved = at;
            moved[i] += step;
            return evaluate(sum(first(vector(moved)) * vector({1, 0.5, -2}))).item();
        };
        CHECK(second.at(static_cast<std::int64_t>(i)) ==
              Approx((along(1e-5) - along(-1e-5)) / 2e-5).epsilon(1e-6));
    }
}

TEST_CASE("a value read twice gets both contributions; one not read gets none") {
    Tensor x = vector({3}), y = vector({4}), z = vector({5});
    auto d = gradients(sum(x * y + x * x), {x, y, z});
    CHECK(evaluate(d[0]).item() == 10);
    CHECK(evaluate(d[1]).item() == 3);
    CHECK_FALSE(d[2]);
}

TEST_CASE("like products that meet become one sum of products") {
    Tensor x = full({4, 8}, 0.5), a = full({3, 8}, 1), b = full({5, 8}, 2), c = full({2, 8}, 3);
    Tensor y = sum(linear(x, a)) + sum(square(linear(x, b))) + sum(linear(x, c));
    Tensor dx = gradients(y, {x})[0];
    auto const* p = dx.value().node->op.as<Product>();
    REQUIRE(p != nullptr);
    CHECK(p->terms == 3);
    // 3 * 1 + 5 outputs of 2 * (8 * 0.5 * 2) * 2 + 2 * 3
    CHECK(evaluate(dx).at(0) == Approx(3 + 5 * 2 * 8 * 2 + 6));
}

TEST_CASE("backward nodes carry their forward node's module") {
    Trace trace;
    Tensor w = full({3, 4}, 1), x = full({2, 4}, 1), y;
    {
        Scope scope("blocks.1.mlp");
        y = linear(x, w);
    }
    Tensor dw = gradients(sum(square(y)), {w})[0];
    CHECK(dw.value().node->origin.path == "blocks.1.mlp");
    CHECK(dw.value().node->origin.phase == Phase::backward);
}

TEST_CASE("what has no gradient says so") {
    Tensor x = full({3}, 1);
    CHECK_THROWS_WITH(gradients(x, {x}), ContainsSubstring("not a scalar"));
    CHECK_THROWS_WITH(gradients(cast(sum(x), i32), {x}), ContainsSubstring("not a floating type"));
}

TEST_CASE("a parameter that the loss does not read has a zero gradient") {
    Two m;
    auto [loss, g] = value_and_gradients(m, [&] { return sum(square(m.used)); });
    REQUIRE(g.entries.size() == 2);
    CHECK(evaluate(g.entries[0].second).at(0) == 2);
    CHECK(evaluate(g.entries[1].second).at(2) == 0);
}

TEST_CASE("residual layers without norms do not make a product again for every layer below") {
    Tensor x = full({2, 4}, 0.5), w = full({4, 4}, 0.1), y = x;
    for (int i = 0; i < 6; ++i) y = y + linear(relu(linear(y, w)), w);
    Tensor dx = gradients(sum(linear(y, w)), {x})[0];
    int terms = 0;
    for (auto const& n : Graph::of({{"dx", dx.value()}}).nodes)
        if (auto const* p = n->op.as<Product>(); p && n->origin.phase == Phase::backward) terms += p->terms;
    CHECK(terms == 2 * 6 + 1);
}
