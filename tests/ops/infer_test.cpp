#include "catch.hpp"
#include "laws/samples.hpp"
#include "ops/metas.hpp"

using namespace tests;

namespace {

struct Row {
    AnyOp op;
    char const *in, *out;
};

using enum ProductForm;
constexpr auto add = BinaryFn::add, less_than = BinaryFn::less;
constexpr auto total = ReduceFn::sum, most = ReduceFn::max;

std::vector<Row> const rows{
    {Unary{UnaryFn::gelu}, "bf16[2, 3]", "bf16[2, 3]"},
    {Unary{UnaryFn::exp}, "f32[]", "f32[]"},
    {Unary{UnaryFn::is_finite}, "bf16[4]", "u8[4]"},
    {UnaryGradient{UnaryFn::gelu}, "bf16[2, 3], bf16[2, 3]", "bf16[2, 3]"},
    {Affine{2, 1}, "bf16[2, 3]", "bf16[2, 3]"},
    {Binary{add}, "bf16[2, 3], bf16[2, 3]", "bf16[2, 3]"},
    {Binary{add}, "bf16[2, 3], f32[3]", "bf16[2, 3]"},
    {Binary{add}, "f32[], bf16[2, 3]", "bf16[2, 3]"},
    {Binary{add}, "bf16[2, 3], f32[2, 1]", "f32[2, 3]"},
    {Binary{add}, "f32[2, 3], f64[2, 3]", "f64[2, 3]"},
    {Binary{add}, "i32[2, 3], i64[2, 3]", "i64[2, 3]"},
    {Binary{add}, "f32[4, 1, 3], f32[2, 1]", "f32[4, 2, 3]"},
    {Binary{less_than}, "bf16[2, 3], f32[]", "u8[2, 3]"},
    {Binary{BinaryFn::equal}, "i32[2, 3], i32[3]", "u8[2, 3]"},
    {Cast{bf16}, "f32[2, 3]", "bf16[2, 3]"},
    {Cast{f32}, "u8[2]", "f32[2]"},
    {Select{}, "u8[2, 3], bf16[2, 3], bf16[2, 3]", "bf16[2, 3]"},
    {Full{1, bf16, {2, 3}}, "", "bf16[2, 3]"},
    {Iota{1, i32, {2, 3}}, "", "i32[2, 3]"},
    {SwiGlu{}, "bf16[2, 3], bf16[2, 3]", "bf16[2, 3]"},
    {SwiGluGradient{}, "bf16[2, 3], bf16[2, 3], bf16[2, 3]", "bf16[2, 3], bf16[2, 3]"},
    {Dropout{0.5, 1}, "bf16[2, 3], i32[2]", "bf16[2, 3]"},

    {Reduce{total, {0, 2}}, "f32[2, 3, 4]", "f32[3]"},
    {Reduce{total, {1}}, "bf16[2, 3]", "f32[2]"},
    {Reduce{total, {1}}, "u8[2, 3]", "i32[2]"},
    {Reduce{total, {}}, "bf16[2]", "f32[2]"},
    {Reduce{most, {1}}, "bf16[2, 3]", "bf16[2]"},
    {Reduce{most, {0}}, "i64[2, 3]", "i64[3]"},
    {Expand{{0, 2}}, "f32[3], bf16[2, 3, 4]", "bf16[2, 3, 4]"},
    {Expand{{}}, "f32[3], bf16[3]", "bf16[3]"},
    {Softmax{}, "bf16[2, 3]", "bf16[2, 3]"},
    {SoftmaxGradient{}, "bf16[2, 3], bf16[2, 3]", "bf16[2, 3]"},

    {Reshape{{6, 4}}, "bf16[2, 3, 4]", "bf16[6, 4]"},
    {Reshape{{0, 3}}, "f32[4, 0]", "f32[0, 3]"},
    {Transpose{{1, 2, 0}}, "i32[2, 3, 4]", "i32[3, 4, 2]"},
    {Slice{1, 1, 2}, "bf16[2, 3]", "bf16[2, 2]"},
    {Slice{0, 2, 0}, "f32[2, 3]", "f32[0, 3]"},
    {Pad{0, 1, 2}, "bf16[2, 3]", "bf16[5, 3]"},
    {Concat{1}, "bf16[2, 3], bf16[2, 1]", "bf16[2, 4]"},

    {Product{nt}, "bf16[2, 3, 4], bf16[5, 4]", "bf16[2, 3, 5]"},
    {Product{nn}, "bf16[2, 3, 5], bf16[5, 4]", "bf16[2, 3, 4]"},
    {Product{tn}, "bf16[2, 3, 5], bf16[2, 3, 4]", "f32[5, 4]"},
    {Product{tn}, "f64[3, 5], f64[3, 4]", "f64[5, 4]"},
    {Product{nn, 2}, "bf16[3, 8], bf16[8, 4], bf16[3, 2], bf16[2, 4]", "bf16[3, 4]"},
    {Linear{Epilogue::bias}, "bf16[2, 3, 4], bf16[5, 4], f32[5]", "bf16[2, 3, 5]"},
    {Linear{Epilogue::bias}, "bf16[4], bf16[5, 4], bf16[5]", "bf16[5]"},
    {Linear{Epilogue::bias_gelu}, "bf16[2, 4], bf16[5, 4], f32[5]", "bf16[2, 5], bf16[2, 5]"},
    {ProductGeluGradient{}, "bf16[2, 3, 5], bf16[5, 4], bf16[2, 3, 4]", "bf16[2, 3, 4]"},
    {LinearGradient{}, "bf16[2, 3, 5], bf16[2, 3, 4]", "f32[5, 4], f32[5]"},
    {LinearGradient{}, "f64[5], f64[4]", "f64[5, 4], f64[5]"},
    {MatMul{}, "bf16[2, 3, 4], bf16[2, 4, 5]", "bf16[2, 3, 5]"},
    {MatMul{true, true}, "f32[4, 3], f32[5, 4]", "f32[3, 5]"},

    {LayerNorm{}, "bf16[2, 3, 4], f32[4], f32[4]", "bf16[2, 3, 4], f32[2, 3], f32[2, 3]"},
    {LayerNorm{}, "bf16[2, 4], bf16[4], f32[4]", "bf16[2, 4], f32[2], f32[2]"},
    {LayerNorm{}, "f64[4], f64[4], f64[4]", "f64[4], f64[], f64[]"},
    {LayerNorm{1e-5, true}, "bf16[2, 4], bf16[2, 4], f32[4], f32[4]",
     "bf16[2, 4], f32[2], f32[2], bf16[2, 4]"},
    {LayerNormGradient{}, "bf16[2, 4], bf16[2, 4], f32[4], f32[2], f32[2]", "bf16[2, 4], f32[4], f32[4]"},
    {LayerNormGradient{true}, "bf16[2, 4], bf16[2, 4], bf16[4], f32[2], f32[2], bf16[2, 4]",
     "bf16[2, 4], f32[4], f32[4]"},
    {RmsNorm{}, "bf16[2, 3, 4], f32[4]", "bf16[2, 3, 4], f32[2, 3]"},
    {RmsNorm{1e-6, true}, "bf16[2, 4], bf16[2, 4], f32[4]", "bf16[2, 4], f32[2], bf16[2, 4]"},
    {RmsNormGradient{}, "bf16[2, 4], bf16[2, 4], f32[4], f32[2]", "bf16[2, 4], f32[4]"},
    {RmsNormGradient{true}, "bf16[2, 4], bf16[2, 4], f32[4], f32[2], bf16[2, 4]", "bf16[2, 4], f32[4]"},

    {RopeTable{5, 4}, "", "f32[5, 2, 2]"},
    {RopeAt{4}, "i32[2, 3]", "f32[2, 3, 2, 2]"},
    {Rope{}, "bf16[2, 3, 2, 4], f32[2, 3, 2, 2]", "bf16[2, 3, 2, 4]"},
    {CacheWrite{}, "bf16[4, 9, 2, 3], f32[2, 5, 2, 3], i32[2], i32[2, 5]", "bf16[4, 9, 2, 3]"},
    {CachedAttention{}, "f32[2, 5, 6, 3], bf16[4, 9, 2, 3], bf16[4, 9, 2, 3], i32[2], i32[2, 5]",
     "f32[2, 5, 6, 3]"},
    {Rope{}, "bf16[2, 3, 2, 4], f32[3, 2, 2]", "bf16[2, 3, 2, 4]"},
    {Rope{true}, "f64[3, 2, 4], f32[3, 2, 2]", "f64[3, 2, 4]"},
    {Attention{}, "bf16[2, 3, 4, 8], bf16[2, 5, 2, 8], bf16[2, 5, 2, 8]", "bf16[2, 3, 4, 8], f32[2, 4, 3]"},
    {AttentionGradient{},
     "bf16[2, 3, 4, 8], bf16[2, 5, 2, 8], bf16[2, 5, 2, 8], bf16[2, 3, 4, 8], f32[2, 4, 3], bf16[2, 3, 4, 8]",
     "bf16[2, 3, 4, 8], bf16[2, 5, 2, 8], bf16[2, 5, 2, 8]"},

    {CrossEntropy{}, "bf16[2, 3, 7], i32[2, 3]", "f32[2, 3], f32[2, 3]"},
    {CrossEntropy{}, "f64[7], i32[]", "f64[], f64[]"},
    {CrossEntropyGradient{}, "bf16[2, 7], i32[2], f32[2], f32[2]", "bf16[2, 7]"},
    {LinearCrossEntropy{}, "bf16[2, 3, 4], bf16[7, 4], i32[2, 3]", "f32[2, 3], f32[2, 3]"},
    {LinearLossBlocks{8, 0, 2}, "bf16[2, 3, 4], bf16[6, 4], i32[2, 3]", "f32[2, 3, 2], f32[2, 3, 2]"},
    {LinearCrossEntropyGradient{}, "bf16[3, 4], bf16[7, 4], i32[3], f32[3], f32[3]", "bf16[3, 4], f32[7, 4]"},
    {LinearCrossEntropyStep{}, "bf16[3, 4], bf16[7, 4], i32[3], f32[3]",
     "f32[3], f32[3], bf16[3, 4], f32[7, 4]"},

    {Embedding{}, "i32[2, 3], bf16[7, 4]", "bf16[2, 3, 4]"},
    {Embedding{}, "i32[], f32[7, 4]", "f32[4]"},
    {EmbeddingGradient{}, "i32[2, 3], bf16[2, 3, 4], bf16[7, 4]", "f32[7, 4]"},

    {AdamWUpdate{}, "f32[2, 3], f32[2, 3], f32[2, 3], f32[2, 3], f32[], i32[]",
     "f32[2, 3], f32[2, 3], f32[2, 3]"},
    {AdamWUpdate{.scaled = true, .guarded = true},
     "f32[3], f32[3], f32[3], f32[3], f32[], i32[], f32[], u8[]", "f32[3], f32[3], f32[3]"},
    {AdamWUpdate{.guarded = true}, "bf16[3], f32[3], f32[3], f32[3], f32[], i32[], u8[]",
     "bf16[3], f32[3], f32[3]"},
    {AdamWUpdate{.scaled = true, .guarded = true, .stochastic = true},
     "bf16[3], f32[3], bf16[3], bf16[3], f32[], i32[], i32[2], f32[], u8[]", "bf16[3], bf16[3], bf16[3]"},
    {StochasticRound{}, "f32[2, 3], i32[2]", "bf16[2, 3]"},
    {StochasticRound{}, "f64[2], i32[2]", "bf16[2]"},
    {MaxAbsolute{}, "bf16[2, 3]", "f32[]"},
    {MaxAbsolute{}, "f64[2, 3]", "f64[]"},
    {Squares{}, "bf16[2, 3], f32[]", "i64[2]"},
    {NormOfSquares{}, "i64[2], f64[]", "f64[]"},
    {Fold{}, "i64[2, 3], i64[2, 3]", "i64[2, 3]"},
    {Fold{Combine::max}, "f32[], f32[], f32[]", "f32[]"},
    {Commit{}, "bf16[2], bf16[2], u8[]", "bf16[2]"},
};

Tensors inputs(Metas const& in) {
    Tensors x;
    for (auto const& m : in) x.push_back(batch_input("x", m));
    return x;
}

Metas metas_of(Tensors const& x) {
    Metas m;
    for (auto const& t : x) m.push_back(t.meta());
    return m;
}

/// A cotangent for each floating output that `outputs` lists; all of them when it is null.
Tensors cotangents(Metas const& out, std::vector<int> const& outputs) {
    Tensors dy(out.size());
    for (int i : outputs)
        dy[static_cast<std::size_t>(i)] = batch_input("dy", out[static_cast<std::size_t>(i)]);
    return dy;
}

}  // namespace

TEST_CASE("shapes and dtypes are inferred, and definitions keep them") {
    for (auto const& row : rows) {
        CAPTURE(row.op.text(), row.in);
        auto in = metas(row.in);
        CHECK(to_string(row.op.infer(in)) == row.out);
        if (row.op.has_define()) CHECK(to_string(metas_of(row.op.define(inputs(in)))) == row.out);
        auto cost = row.op.cost(in);
        double written = 0;
        for (auto const& m : row.op.infer(in)) written += static_cast<double>(m.bytes());
        CHECK(cost.bytes_written == written);
    }
}

TEST_CASE("gradients have their input's shape, and its dtype or f32") {
    for (auto const& row : rows) {
        if (!row.op.has_vjp() || row.op.as<NormOfSquares>()) continue;  // that one's vjp refuses
        CAPTURE(row.op.text(), row.in);
        auto x = inputs(metas(row.in));
        auto y = apply(row.op, x);
        if (!is_floating(y[0].dtype())) continue;
        auto dx = row.op.vjp(x, y, cotangents(metas_of(y), {0}));
        REQUIRE(dx.size() == x.size());
        for (std::size_t i = 0; i < x.size(); ++i) {
            if (!dx[i]) continue;
            CHECK(is_floating(x[i].dtype()));
            CHECK(dx[i].shape() == x[i].shape());
            CHECK((dx[i].dtype() == x[i].dtype() || dx[i].dtype() == f32));
        }
    }
}

TEST_CASE("an f32 cotangent of a bf16 value is taken") {
    for (auto const& row : rows) {
        auto x = inputs(metas(row.in));
        auto y = apply(row.op, x);
        if (!row.op.has_vjp() || y[0].dtype() != bf16) continue;
        CAPTURE(row.op.text(), row.in);
        Tensors dy(y.size());
        dy[0] = batch_input("dy", {f32, y[0].shape()});
        auto dx = row.op.vjp(x, y, dy);
        for (std::size_t i = 0; i < x.size(); ++i)
            if (dx[i]) CHECK(dx[i].shape() == x[i].shape());
    }
}

TEST_CASE("without a cotangent there is no gradient") {
    for (auto const& s : samples()) {
        if (!s.op.has_vjp()) continue;
        CAPTURE(s.name);
        auto x = inputs(s.metas());
        auto y = apply(s.op, x);
        auto dx = s.op.vjp(x, y, Tensors(y.size()));
        REQUIRE(dx.size() == x.size());
        for (auto const& d : dx) CHECK(!d);
    }
}

TEST_CASE("either cotangent of a residual norm may be missing") {
    for (auto const& s : samples()) {
        if (s.name.find("norm with residual") == std::string::npos) continue;
        CAPTURE(s.name);
        auto x = inputs(s.metas());
        auto y = apply(s.op, x);
        auto through = s.op.vjp(x, y, cotangents(metas_of(y), {s.outputs[1]}));
        CHECK(through[0].value() == through[1].value());
        CHECK(!through[2]);
        auto both = s.op.vjp(x, y, cotangents(metas_of(y), {0}));
        CHECK(both[0].value() == both[1].value());
        CHECK(both[2].shape() == x[2].shape());
    }
}

TEST_CASE("definitions of the samples keep what is inferred") {
    for (auto const& s : samples()) {
        CAPTURE(s.name);
        if (s.op.has_define())
            CHECK(to_string(metas_of(s.op.define(inputs(s.metas())))) == to_string(s.op.infer(s.metas())));
    }
}

TEST_CASE("costs count the products") {
    struct Count {
        AnyOp op;
        char const* in;
        double flops;
    };
    Count const counts[] = {
        {Product{nt}, "f32[2, 3, 4], f32[5, 4]", 2 * 6 * 4 * 5},
        {Product{nn}, "f32[6, 5], f32[5, 4]", 2 * 6 * 4 * 5},
        {Product{tn}, "f32[6, 5], f32[6, 4]", 2 * 6 * 4 * 5},
        {Product{nn, 2}, "f32[6, 5], f32[5, 4], f32[6, 3], f32[3, 4]", 2 * 6 * 4 * (5 + 3)},
        {Linear{}, "f32[6, 4], f32[5, 4], f32[5]", 2 * 6 * 4 * 5},
        {ProductGeluGradient{}, "f32[6, 5], f32[5, 4], f32[6, 4]", 2 * 6 * 4 * 5},
        {LinearGradient{}, "f32[6, 5], f32[6, 4]", (2 * 4 + 1) * 6 * 5},
        {MatMul{true, false}, "f32[7, 4, 6], f32[7, 4, 5]", 2 * 7 * 6 * 4 * 5},
        {Attention{false}, "f32[2, 3, 4, 8], f32[2, 5, 2, 8], f32[2, 5, 2, 8]", 2 * 2 * (2 * 4 * 3 * 5 * 8)},
        {Attention{true}, "f32[2, 3, 4, 8], f32[2, 5, 2, 8], f32[2, 5, 2, 8]", 2 * (2 * 4 * 3 * 5 * 8)},
        {LinearCrossEntropy{}, "f32[6, 4], f32[7, 4], i32[6]", 2 * 6 * 4 * 7},
        {LinearLossBlocks{8, 0, 7}, "f32[6, 4], f32[7, 4], i32[6]", 2 * 6 * 4 * 7},
        {LinearCrossEntropyStep{}, "f32[6, 4], f32[7, 4], i32[6], f32[6]", 3 * 2 * 6 * 4 * 7},
    };
    for (auto const& c : counts) {
        CAPTURE(c.op.text(), c.in);
        CHECK(c.op.cost(metas(c.in)).flops == c.flops);
    }
}
