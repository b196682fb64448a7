#include "catch.hpp"
#include "laws/reference.hpp"

using namespace tests;

namespace {

/// Whether the value of `t` is computed from the value of `of`; an operand that only lends its shape does not
/// count.
bool depends(Value const& t, Value const& of) {
    if (t.node == of.node) return true;
    Metas in;
    for (auto const& v : t.node->inputs) in.push_back(v.meta());
    auto like = t.node->op.rule(in).like;
    for (std::size_t i = 0; i < t.node->inputs.size(); ++i)
        if (!like[i] && depends(t.node->inputs[i], of)) return true;
    return false;
}

Numbers numbers(Shape shape, std::vector<double> values, DType dtype = f64) {
    return {{dtype, shape}, values};
}

}  // namespace

TEST_CASE("scalars keep a tensor's dtype") {
    auto x = batch_input("x", {bf16, {2, 3}});
    for (auto const& y : {x + 1.0, 1.0 - x, x * 2.0, 2.0 / x, x / 3.0, -x}) CHECK(y.meta() == x.meta());
    CHECK((x * full({}, 2, f32)).meta() == x.meta());
    CHECK((x + full({3}, 2, f32)).meta() == x.meta());
    CHECK(mean(x).meta() == Meta{f32, {}});
    CHECK(mean(x, {-1}).meta() == Meta{f32, {2}});
}

TEST_CASE("what changes nothing records nothing") {
    auto x = batch_input("x", {f32, {2, 3}});
    auto key = batch_input("key", {i32, {2}});
    for (auto const& y : {cast(x, f32), reshape(x, {2, 3}), dropout(x, 0, key), affine(x, 1),
                          expand(x, {}, x), sum_to(x, {2, 3})})
        CHECK(y.value() == x.value());
    CHECK(linear(x, batch_input("w", {f32, {4, 3}})).value().node->op.name() == "product");
}

TEST_CASE("two dropouts have masks of their own") {
    Trace trace;
    auto x = batch_input("x", {f32, {2, 3}});
    auto key = batch_input("key", {i32, {2}});
    auto site = [&] { return dropout(x, 0.5, key).value().node->op.as<Dropout>()->site; };
    auto first = site();
    CHECK(first != site());
    Scope scope("block");
    CHECK(first != site());
}

TEST_CASE("dims may count from the end and stand in any order") {
    auto x = batch_input("x", {f32, {2, 3, 4}});
    CHECK(sum(x, {-1, 0}).shape() == Shape{3});
    CHECK(max(x, {2, 1}).shape() == Shape{2});
    CHECK(sum(x).shape() == Shape{});
    CHECK(slice(x, -1, 1, 2).shape() == Shape{2, 3, 2});
    CHECK(pad(x, -2, 1, 1).shape() == Shape{2, 5, 4});
    CHECK(concat({x, x}, -1).shape() == Shape{2, 3, 8});
    CHECK(transpose(x).shape() == Shape{2, 4, 3});
    CHECK(iota({2, 3}, -1).value().node->op.as<Iota>()->dim == 1);
    auto parts = split(x, 2, {1, 3});
    CHECK(parts[0].shape() == Shape{2, 3, 1});
    CHECK(parts[1].shape() == Shape{2, 3, 3});
    CHECK(sum_to(x, {3, 1}).shape() == Shape{3, 1});
    CHECK(sum_to(x, {}).shape() == Shape{});
}

TEST_CASE("the mean loss skips ignored targets, and none counting gives zero") {
    Reference run;
    auto logits = run.bind(numbers({3, 2}, {0, 0, 1, -1, 5, 7}));
    auto nll = [](double a, double b) { return std::log(1 + std::exp(b - a)); };
    auto two = run.bind(numbers({3}, {1, -1, 0}, i32)), none = run.bind(numbers({3}, {-1, -100, -2}, i32));
    CHECK(run(cross_entropy(logits, two)).values[0] == Approx((nll(0, 0) + nll(5, 7)) / 2));
    CHECK(run(cross_entropy(logits, none)).values[0] == 0);
    auto x = run.bind(numbers({3, 2}, {0, 0, 1, -1, 5, 7})), w = run.bind(numbers({2, 2}, {1, 0, 0, 1}));
    CHECK(run(linear_cross_entropy(x, w, two, 2)).values[0] == Approx((nll(0, 0) + nll(5, 7)) / 2));
    CHECK(cross_entropy(batch_input("x", {bf16, {3, 2}}), two).dtype() == f32);
}

TEST_CASE("the loss's gradient is known before the loss") {
    auto logits = batch_input("x", {f32, {3, 2}});
    auto targets = batch_input("t", {i32, {3}});
    auto loss = cross_entropy(logits, targets);
    auto multiply = loss.value().node;
    REQUIRE(multiply->op.text() == "binary(fn=multiply)");
    Tensors in{Tensor(multiply->inputs[0]), Tensor(multiply->inputs[1])};
    auto dsum = multiply->op.vjp(in, {loss}, {full({}, 1)})[0];
    auto reduce = in[0].value().node;
    Tensor nll(reduce->inputs[0]);
    auto dnll = reduce->op.vjp({nll}, {in[0]}, {dsum})[0];
    CHECK(dnll.meta() == nll.meta());
    CHECK(!depends(dnll.value(), nll.value()));
    CHECK(depends(dnll.value(), targets.value()));
}

TEST_CASE("attention reads kv head h * kv_heads / heads, and causally no later key") {
    for (bool causal : {true, false}) {
        std::int64_t const b = 2, s = 4, heads = 6, kv = 2, d = 3;
        Sample sample{
            "q, k, v", Attention{causal}, {any({b, s, heads, d}), any({b, s, kv, d}), any({b, s, kv, d})}};
        auto x = random_inputs(sample, 5);
        Reference run;
        auto y = apply(sample.op, {run.bind(x[0]), run.bind(x[1]), run.bind(x[2])});
        auto out = run(y[0]), lse = run(y[1]);
        for_each_index({b, heads, s}, [&](Shape const& i) {
            std::vector<double> e;
            auto head = i[1] * kv / heads;
            for (std::int64_t t = 0; t < (causal ? i[2] + 1 : s); ++t) {
                double score = 0;
                for (std::int64_t c = 0; c < d; ++c)
                    score += at(x[0], {i[0], i[2], i[1], c}) * at(x[1], {i[0], t, head, c});
                e.push_back(std::exp(score / std::sqrt(3.0)));
            }
            double total = std::accumulate(e.begin(), e.end(), 0.0);
            CHECK(at(lse, i) == Approx(std::log(total)));
            for (std::int64_t c = 0; c < d; ++c) {
                double want = 0;
                for (std::size_t t = 0; t < e.size(); ++t)
                    want += e[t] / total * at(x[2], {i[0], static_cast<std::int64_t>(t), head, c});
                CHECK(at(out, {i[0], i[2], i[1], c}) == Approx(want));
            }
        });
    }
}

TEST_CASE("rope turns the pairs (i, i + dim / 2) by their angle, and back") {
    Reference run;
    auto x = run.bind(numbers({2, 1, 4}, {1, 2, 3, 4, 1, 2, 3, 4}));
    auto table = run.bind(numbers({2, 2, 2}, {1, 0, 1, 0, 0.6, 0.8, 0, 1}));
    auto y = rope(x, table);
    CHECK(run(y).values == std::vector<double>{1, 2, 3, 4, 0.6 * 1 - 0.8 * 3, -4, 0.6 * 3 + 0.8 * 1, 2});
    auto back = run(apply_one(Rope{true}, {y, table})).values;
    for (std::size_t i = 0; i < 4; ++i) CHECK(back[4 + i] == Approx(static_cast<double>(i + 1)));
}

TEST_CASE("norms have mean 0, variance 1 and give the residual's sum") {
    Reference run;
    auto x = run.bind(numbers({1, 4}, {1, 2, 3, 6})), r = run.bind(numbers({1, 4}, {0, 1, 0, -1}));
    auto gain = run.bind(numbers({4}, {1, 1, 2, 1})), bias = run.bind(numbers({4}, {0, 0, 0, 7}));
    auto y = apply(LayerNorm{0, true}, {x, r, gain, bias});  // 1 3 3 5: mean 3, variance 2
    auto n = run(y[0]).values;
    CHECK(n[0] == Approx(-std::sqrt(2.0)));
    CHECK(n[1] == Approx(0).margin(1e-12));
    CHECK(n[3] == Approx(7 + std::sqrt(2.0)));
    CHECK(run(y[1]).values[0] == 3);
    CHECK(run(y[2]).values[0] == Approx(std::sqrt(0.5)));
    CHECK(run(y[3]).values == std::vector<double>{1, 3, 3, 5});
    auto z = apply(RmsNorm{0, false}, {x, gain});  // mean square 12.5
    CHECK(run(z[0]).values[2] == Approx(6 / std::sqrt(12.5)));
    CHECK(run(z[1]).values[0] == Approx(1 / std::sqrt(12.5)));
}

TEST_CASE("adamw is the published step, scaled and guarded") {
    double const p = 0.5, g = -2, m = 0.1, v = 0.3, rate = 0.01, scale = 0.25;
    for (bool ok : {true, false}) {
        Reference run;
        auto one = [&](double value, DType t = f64) { return run.bind(numbers({}, {value}, t)); };
        auto y = apply(AdamWUpdate{0.9, 0.95, 1e-8, 0.1, true, true},
                       {one(p), one(g), one(m), one(v), one(rate), one(3, i32), one(scale), one(ok, u8)});
        double m2 = 0.9 * m + 0.1 * g * scale, v2 = 0.95 * v + 0.05 * g * scale * g * scale;
        double step =
            m2 / (1 - std::pow(0.9, 3)) / (std::sqrt(v2 / (1 - std::pow(0.95, 3))) + 1e-8) + 0.1 * p;
        CHECK(run(y[0]).values[0] == Approx(ok ? p - rate * step : p));
        CHECK(run(y[1]).values[0] == Approx(ok ? m2 : m));
        CHECK(run(y[2]).values[0] == Approx(ok ? v2 : v));
    }
}

TEST_CASE("equal maxima share their gradient") {
    Reference run;
    auto x = run.bind(numbers({2, 3}, {1, 4, 4, 7, 7, 7}));
    auto y = max(x, {1});
    auto dy = run.bind(numbers({2}, {1, 3}));
    CHECK(run(y.value().node->op.vjp({x}, {y}, {dy})[0]).values == std::vector<double>{0, 0.5, 0.5, 1, 1, 1});
    auto a = run.bind(numbers({2}, {1, 2})), b = run.bind(numbers({2}, {1, 5}));
    auto m = maximum(a, b);
    auto d = m.value().node->op.vjp({a, b}, {m}, {dy});
    CHECK(run(d[0]).values == std::vector<double>{0.5, 0});
    CHECK(run(d[1]).values == std::vector<double>{0.5, 3});
}

TEST_CASE("a row of the embedding's gradient is the sum over its tokens") {
    Reference run;
    auto tokens = run.bind(numbers({3}, {2, 0, 2}, i32));
    auto table = run.bind(numbers({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8}));
    auto y = embedding(tokens, table);
    CHECK(run(y).values == std::vector<double>{5, 6, 1, 2, 5, 6});
    auto dy = run.bind(numbers({3, 2}, {1, 10, 2, 20, 3, 30}));
    auto d = y.value().node->op.vjp({tokens, table}, {y}, {dy});
    CHECK(!d[0]);
    CHECK(run(d[1]).values == std::vector<double>{2, 20, 0, 0, 4, 40, 0, 0});
}
