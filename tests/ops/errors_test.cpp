#include "catch.hpp"
#include "laws/samples.hpp"
#include "ops/metas.hpp"

using namespace tests;

namespace {

struct Row {
    AnyOp op;
    char const* in;
    std::vector<char const*> says;
};

using enum ProductForm;
constexpr auto add = BinaryFn::add;

std::vector<Row> const rows{
    {Unary{UnaryFn::exp}, "i32[3]", {"unary exp", "i32[3]", "want f32 or bf16 or f64"}},
    {Unary{UnaryFn::exp}, "", {"unary", "0 inputs, not 1"}},
    {UnaryGradient{UnaryFn::exp}, "f32[3], f32[4]", {"unary_gradient", "size 4", "size 3"}},
    {UnaryGradient{UnaryFn::exp}, "f32[3], bf16[3]", {"unary_gradient exp", "dy given as bf16[3], want f32"}},
    {UnaryGradient{UnaryFn::is_finite}, "f32[3], f32[3]", {"unary_gradient is_finite", "no such gradient"}},
    {Affine{2, 0}, "u8[3]", {"affine", "u8[3]"}},
    {Binary{add},
     "f32[8, 64], f32[8, 32]",
     {"binary add", "f32[8, 64], f32[8, 32]", "dim 1 of the left has size 64",
      "dim 1 of the right has size 32", "or one of them 1"}},
    {Binary{add},
     "f32[2, 3, 5], f32[2, 5]",
     {"dim 1 of the left has size 3", "dim 0 of the right has size 2"}},
    {Binary{add}, "f32[3], i32[3]", {"binary add", "f32[3], i32[3]", "cast"}},
    {Binary{BinaryFn::divide}, "i32[3], i32[3]", {"binary divide", "i32[3]", "want f32"}},
    {Binary{add}, "f32[3]", {"binary add", "1 inputs, not 2"}},
    {Select{}, "f32[3], f32[3], f32[3]", {"select", "the condition given as f32[3], want u8"}},
    {Select{}, "u8[3], f32[3], f64[3]", {"select", "b given as f64[3], want f32"}},
    {Select{}, "u8[1], f32[3], f32[3]", {"select", "size 3", "size 1"}},
    {Select{}, "u8[], f32[3], f32[3]", {"select", "input 1 has 1 dims, not 0"}},
    {Iota{2, i32, {3, 4}}, "", {"iota", "dims [2]", "[3, 4]"}},
    {Full{1, f32, {2}}, "f32[2]", {"full", "1 inputs, not 0"}},
    {SwiGlu{}, "f32[3, 4], f32[3, 5]", {"swiglu", "size 5", "size 4"}},
    {SwiGlu{}, "f32[3, 4], f32[4]", {"swiglu", "input 1 has 1 dims, not 2"}},
    {Dropout{1, 0}, "f32[3], i32[2]", {"dropout", "rate is 1", "rate < 1"}},
    {Dropout{0.1, 0}, "f32[3], i32[3]", {"dropout", "i32[3], want i32[2]"}},

    {Reduce{ReduceFn::sum, {2}}, "f32[3, 4]", {"reduce", "dims [2]", "[3, 4]"}},
    {Reduce{ReduceFn::sum, {1, 0}}, "f32[3, 4]", {"reduce", "dims [1, 0] must ascend"}},
    {Reduce{ReduceFn::max, {0}},
     "u8[3, 4]",
     {"reduce max: the input given as u8[3, 4], want f32 or bf16 or f64 or i32 or i64"}},
    {Expand{{0}}, "f32[3], f32[2, 4]", {"expand", "dim 0 has size 3", "dim 1", "size 4"}},
    {Expand{{0, 1}}, "f32[3], f32[2, 3]", {"expand", "1 dims", "2 repeated"}},
    {Expand{{0}}, "f32[3], i32[2, 3]", {"expand", "cast"}},
    {Softmax{}, "f32[]", {"softmax", "input 0 has 0 dims, not at least 1"}},

    {Reshape{{5, 5}}, "f32[4, 6]", {"reshape", "24 elements", "[5, 5]", "25"}},
    {Transpose{{0, 0}}, "f32[4, 6]", {"transpose", "[0, 0]", "2 dims"}},
    {Slice{1, 2, 3}, "f32[4, 4]", {"slice", "2 to 5 of dim 1", "size 4"}},
    {Slice{2, 0, 1}, "f32[4, 4]", {"slice", "dims [2]", "[4, 4]"}},
    {Pad{0, -1, 0}, "f32[4]", {"pad", "-1 zeros"}},
    {Concat{1}, "f32[2, 3], f32[4, 3]", {"concat", "dim 0 of input 1 has size 4", "size 2"}},
    {Concat{0}, "f32[2, 3], f32[2]", {"concat", "input 1 has 1 dims, not 2"}},
    {Concat{0}, "f32[2], f64[2]", {"concat", "dtypes differ"}},
    {Concat{0}, "", {"concat", "no inputs"}},

    {Product{nt},
     "f32[8, 64], f32[32, 48]",
     {"product nt", "f32[8, 64], f32[32, 48]", "dim 1 of input 1 has size 48",
      "dim 1 of input 0 has size 64"}},
    {Product{nn}, "f32[8, 64], f32[32, 48]", {"product nn", "size 32", "size 64"}},
    {Product{tn}, "f32[8, 64], f32[7, 48]", {"product tn", "size 7", "size 8"}},
    {Product{nt}, "bf16[8, 64], f32[32, 64]", {"product nt", "the right given as f32[32, 64], want bf16"}},
    {Product{nt, 2}, "f32[8, 4], f32[5, 4]", {"product nt", "2 inputs, not 4"}},
    {Product{nt, 2}, "f32[8, 4], f32[5, 4], f32[8, 3], f32[5, 4]", {"product nt", "size 4", "size 3"}},
    {Linear{}, "f32[8, 4], f32[5, 4], f32[4]", {"linear", "dim 0 of input 2 has size 4", "size 5"}},
    {Linear{}, "bf16[8, 4], bf16[5, 4], f64[5]", {"linear", "the bias given as f64[5], want bf16 or f32"}},
    {ProductGeluGradient{}, "f32[8, 5], f32[5, 4], f32[8, 5]", {"product_gelu_gradient", "size 5", "size 4"}},
    {ProductGeluGradient{},
     "bf16[8, 5], bf16[5, 4], f32[8, 4]",
     {"product_gelu_gradient", "x given as f32[8, 4], want bf16"}},
    {LinearGradient{}, "f32[8, 5], f32[7, 4]", {"linear_gradient", "size 8", "size 7"}},
    {LinearGradient{}, "bf16[8, 5], f32[8, 4]", {"linear_gradient", "x given as f32[8, 4], want bf16"}},
    {MatMul{}, "f32[2, 3, 4], f32[2, 5, 6]", {"matmul", "size 5", "size 4"}},
    {MatMul{}, "f32[2, 3, 4], f32[3, 4, 6]", {"matmul", "size 3", "size 2"}},
    {MatMul{}, "f32[2, 3, 4], f32[4, 6]", {"matmul", "input 1 has 2 dims, not 3"}},
    {MatMul{}, "f32[3, 4], f64[4, 6]", {"matmul", "f64[4, 6], want f32"}},

    {LayerNorm{}, "f32[2, 4], f32[3], f32[4]", {"layer_norm", "size 3", "size 4"}},
    {LayerNorm{}, "f32[2, 4], f32[4]", {"layer_norm", "2 inputs, not 3"}},
    {LayerNorm{}, "f32[2, 4], bf16[4], f32[4]", {"layer_norm", "gain given as bf16[4], want f32"}},
    {RmsNorm{1e-6, true}, "f32[2, 4], f32[3, 4], f32[4]", {"rms_norm", "size 3", "size 2"}},
    {RmsNormGradient{},
     "f32[2, 4], f32[2, 4], f32[4], bf16[2]",
     {"rms_norm_gradient", "rstd given as bf16[2], want f32"}},

    {RopeTable{4, 3}, "", {"rope_table", "dim 3", "even"}},
    {RopeAt{3}, "i32[2]", {"rope_at", "dim 3", "even"}},
    {RopeAt{4}, "f32[2]", {"rope_at", "positions given as f32[2], want i32"}},
    {CacheWrite{},
     "f32[4, 9, 2, 3], f32[2, 5, 3, 3], i32[2], i32[2, 5]",
     {"cache_write", "size 3", "size 2"}},
    {CacheWrite{},
     "f32[4, 9, 2, 3], f32[2, 5, 2, 3], i32[2], f32[2, 5]",
     {"cache_write", "the positions given as f32[2, 5], want i32"}},
    {CachedAttention{},
     "f32[2, 5, 6, 3], f32[4, 9, 2, 3], f64[4, 9, 2, 3], i32[2], i32[2, 5]",
     {"cached_attention", "v given as f64"}},
    {CachedAttention{},
     "f32[2, 5, 6, 3], f32[4, 9, 2, 3], f32[4, 9, 2, 3], i32[3], i32[2, 5]",
     {"cached_attention", "size 3", "size 2"}},
    {Rope{}, "f32[2, 3, 2, 7], f32[3, 4, 2]", {"rope", "size 7, not 8"}},
    {Rope{}, "f32[2, 5, 2, 8], f32[3, 4, 2]", {"rope", "size 3", "size 5"}},
    {Rope{}, "f32[2, 3, 2, 9], f32[3, 3, 3]", {"rope", "cosine and sine"}},
    {Attention{},
     "f32[2, 5, 3, 8], f32[2, 5, 2, 8], f32[2, 5, 2, 8]",
     {"attention", "size 3, which 2 does not divide"}},
    {Attention{}, "f32[2, 5, 4, 8], f32[2, 5, 2, 6], f32[2, 5, 2, 6]", {"attention", "size 6", "size 8"}},
    {Attention{}, "f32[5, 4, 8], f32[5, 4, 8], f32[5, 4, 8]", {"attention", "input 0 has 3 dims, not 4"}},
    {Attention{}, "f32[2, 5, 4, 8], f64[2, 5, 4, 8], f32[2, 5, 4, 8]", {"attention", "k given as f64"}},

    {CrossEntropy{}, "f32[2, 3, 7], i32[2, 4]", {"cross_entropy", "size 4", "size 3"}},
    {CrossEntropy{}, "f32[2, 3, 7], f32[2, 3]", {"cross_entropy", "targets given as f32[2, 3], want i32"}},
    {CrossEntropy{}, "f32[2, 3, 7], i32[3]", {"cross_entropy", "input 1 has 1 dims, not 2"}},
    {LinearCrossEntropy{}, "f32[6, 4], f32[7, 5], i32[6]", {"linear_cross_entropy", "size 5", "size 4"}},
    {LinearLossBlocks{8, 0, 3},
     "f32[6, 4], f32[7, 4], i32[6]",
     {"linear_loss_blocks", "3 blocks of a vocabulary of 7"}},
    {LinearCrossEntropy{0}, "f32[6, 4], f32[7, 4], i32[6]", {"linear_cross_entropy", "a chunk of 0"}},
    {Embedding{}, "f32[2, 3], f32[7, 4]", {"embedding: tokens given as f32[2, 3], want i32"}},
    {Embedding{}, "i32[2, 3], f32[7]", {"embedding", "input 1 has 1 dims, not 2"}},
    {EmbeddingGradient{}, "i32[2], f32[2, 3], f32[7, 4]", {"embedding_gradient", "size 4", "size 3"}},

    {AdamWUpdate{}, "f32[3], f32[4], f32[3], f32[3], f32[], i32[]", {"adamw", "size 4", "size 3"}},
    {AdamWUpdate{},
     "f32[3], f32[3], f32[3], f32[3], f32[], f32[]",
     {"adamw", "the step given as f32[], want i32"}},
    {AdamWUpdate{}, "f32[3], f32[3], f32[3], f32[3], f32[1], i32[]", {"adamw", "input 4 has 1 dims, not 0"}},
    {AdamWUpdate{.guarded = true},
     "f32[3], f32[3], f32[3], f32[3], f32[], i32[]",
     {"adamw", "6 inputs, not 7"}},
    {AdamWUpdate{.stochastic = true},
     "bf16[3], f32[3], f32[3], f32[3], f32[], i32[]",
     {"adamw", "6 inputs, not 7"}},
    {AdamWUpdate{.stochastic = true},
     "bf16[3], f32[3], f32[3], f32[3], f32[], i32[], i32[3]",
     {"adamw", "i32[3], want i32[2]"}},
    {StochasticRound{}, "bf16[3], i32[2]", {"stochastic_round", "x given as bf16[3], want f32 or f64"}},
    {StochasticRound{}, "f32[3], i32[3]", {"stochastic_round", "i32[3], want i32[2]"}},
    {MaxAbsolute{}, "i32[2]", {"max_absolute", "i32[2]"}},
    {Squares{}, "bf16[2], f64[]", {"squares", "m given as f64[], want f32"}},
    {Squares{}, "f32[2], f32[2]", {"squares", "m is not a scalar"}},
    {Squares{32}, "f32[2], f32[]", {"squares", "32 bits, want 1 to 31"}},
    {NormOfSquares{}, "i64[3], f32[]", {"norm_of_squares", "i64[3], want i64[2]"}},
    {NormOfSquares{}, "f32[2], f32[]", {"norm_of_squares", "f32[2], want i64"}},
    {Fold{}, "", {"fold sum", "no inputs"}},
    {Fold{}, "f32[2], f32[3]", {"fold sum", "size 3", "size 2"}},
    {Fold{}, "f32[2], bf16[2]", {"fold sum", "bf16[2], want f32"}},
    {Fold{Combine::max}, "i32[2], i32[2]", {"fold max", "i32[2], want f32 or f64"}},
    {Fold{Combine::integer_sum}, "f32[2]", {"fold integer_sum", "f32[2], want i32 or i64"}},
    {Commit{}, "f32[2], bf16[2], u8[]", {"commit", "the new value given as bf16[2], want f32"}},
};

template <class F>
std::string message(F&& f) {
    try {
        f();
    } catch (ShapeError const& e) {
        return e.what();
    }
    return "no error";
}

}  // namespace

TEST_CASE("an error names the op, the shapes and the sizes that clash, in one line") {
    for (auto const& row : rows) {
        CAPTURE(row.op.text(), row.in);
        auto text = message([&] { row.op.infer(metas(row.in)); });
        for (auto const* part : row.says) CHECK_THAT(text, ContainsSubstring(part));
        CHECK(text.find('\n') == std::string::npos);
    }
}

TEST_CASE("functions check what they are given") {
    auto x = batch_input("x", {f32, {2, 3}});
    CHECK_THAT(message([&] { sum(x, {2}); }), ContainsSubstring("sum: dim 2 lies outside the shape [2, 3]"));
    CHECK_THAT(message([&] { max(x, {-3}); }), ContainsSubstring("max: dim -3"));
    CHECK_THAT(message([&] { split(x, 1, {1, 1}); }), ContainsSubstring("add up to 2, but dim 1 has size 3"));
    CHECK_THAT(message([&] { concat({}, 0); }), ContainsSubstring("no inputs"));
    CHECK_THAT(message([&] { transpose(sum(x)); }), ContainsSubstring("last two dims"));
    CHECK_THAT(message([&] { exp(Tensor()); }), ContainsSubstring("unary: input 0 is an empty tensor"));
    CHECK_THAT(message([&] { slice(x, 5, 0, 1); }), ContainsSubstring("slice"));
    CHECK_THAT(message([&] { concat({x, x}, -3); }), ContainsSubstring("concat"));
}

TEST_CASE("an error says where in the model it happened") {
    Scope block("blocks.3");
    Scope mlp("mlp");
    auto x = batch_input("x", {f32, {2, 3}}), w = batch_input("w", {f32, {4, 5}});
    CHECK_THAT(message([&] { linear(x, w); }), ContainsSubstring("in blocks.3.mlp"));
}

TEST_CASE("outputs that help backward refuse a cotangent of their own") {
    auto x = batch_input("x", {f32, {2, 7}});
    auto targets = batch_input("targets", {i32, {2}});
    Tensors in{x, targets};
    auto y = apply(CrossEntropy{}, in);
    CHECK_THROWS_WITH(CrossEntropy{}.vjp(in, y, {Tensor(), y[1]}),
                      ContainsSubstring("cross_entropy: output 1"));
}
