#include "catch.hpp"
#include "laws/samples.hpp"
#include "ops/metas.hpp"

using namespace tests;

TEST_CASE("rules name the factors of each dim") {
    struct Row {
        AnyOp op;
        char const *in, *rule;
    };
    using enum ProductForm;
    Row const rows[] = {
        {Product{nt}, "f32[2, 3, 4], f32[5, 4]", ".0:2 .1:3 k:4, n:5 k:4 -> .0:2 .1:3 n:5"},
        {Product{nn}, "f32[2, 5], f32[5, 4]", ".0:2 n:5, n:5 k:4 -> .0:2 k:4"},
        {Product{tn}, "f32[2, 5], f32[2, 4]", ".0:2 n:5, .0:2 k:4 -> n:5 k:4"},
        // The heads of q, k and v are split alike.
        {Product{nn, 2}, "f32[3, 8], f32[8, 5], f32[3, 4], f32[4, 5]",
         ".0:3 (shared:4 !n0:2), (shared:4 !n0:2) k:5, .0:3 (shared:4 !n1:1), (shared:4 !n1:1) k:5 -> .0:3 "
         "k:5"},
        {Product{tn, 2}, "f32[2, 5], f32[2, 4], f32[3, 5], f32[3, 4]",
         "!0.0:2 n:5, !0.0:2 k:4, !1.0:3 n:5, !1.0:3 k:4 -> n:5 k:4"},
        {Linear{}, "f32[2, 4], f32[5, 4], f32[5]", ".0:2 !k:4, n:5 !k:4, n:5 -> .0:2 n:5"},
        {ProductGeluGradient{}, "f32[2, 5], f32[5, 4], f32[2, 4]", ".0:2 n:5, n:5 k:4, .0:2 k:4 -> .0:2 k:4"},
        {LinearGradient{}, "f32[2, 5], f32[2, 4]", ".0:2 n:5, .0:2 !k:4 -> n:5 !k:4, n:5"},
        {MatMul{false, true}, "f32[2, 3, 4], f32[2, 5, 4]", ".0:2 m:3 k:4, .0:2 n:5 k:4 -> .0:2 m:3 n:5"},
        {Attention{}, "f32[2, 3, 6, 8], f32[2, 5, 2, 8], f32[2, 5, 2, 8]",
         "b:2 !s:3 (h:2 g:3) !d:8, b:2 !t:5 h:2 !d:8, b:2 !t:5 h:2 !d:8 -> b:2 !s:3 (h:2 g:3) !d:8, b:2 (h:2 "
         "g:3) !s:3"},
        {Rope{}, "f32[2, 3, 4, 8], f32[3, 4, 2]",
         ".0:2 s:3 h:4 (!t:2 !e:4), s:3 !e:4 !t:2 -> .0:2 s:3 h:4 (!t:2 !e:4)"},
        {Rope{}, "f32[2, 3, 4, 8], f32[2, 3, 4, 2]",
         ".0:2 s:3 h:4 (!t:2 !e:4), .0:2 s:3 !e:4 !t:2 -> .0:2 s:3 h:4 (!t:2 !e:4)"},
        {RopeAt{8}, "i32[2, 3]", "0:2 1:3 -> 0:2 1:3 !2:4 !3:2"},
        {CacheWrite{}, "f32[4, 9, 2, 3], f32[5, 6, 2, 3], i32[5], i32[5, 6]",
         "!c:4 !t:9 h:2 d:3, !b:5 !n:6 h:2 d:3, !b:5, !b:5 !n:6 -> !c:4 !t:9 h:2 d:3"},
        {CachedAttention{}, "f32[5, 6, 4, 3], f32[4, 9, 2, 3], f32[4, 9, 2, 3], i32[5], i32[5, 6]",
         "b:5 n:6 (h:2 g:2) !d:3, !c:4 !t:9 h:2 !d:3, !c:4 !t:9 h:2 !d:3, b:5, b:5 n:6 -> b:5 n:6 (h:2 g:2) "
         "!d:3"},
        {Reshape{{6, 4}}, "f32[2, 3, 4]", "0:2 1:3 2:4 -> (0:2 1:3) 2:4"},
        {Reshape{{2, 3, 4, 5}}, "f32[2, 3, 20]", "0:2 1:3 (2:4 3:5) -> 0:2 1:3 2:4 3:5"},
        {Reshape{{6, 4}}, "f32[4, 6]", "(0:2 !1:2) !3:6 -> (0:2 !2:3) !4:4"},
        {Reshape{{5, 3, 2}}, "f32[3, 5, 2]", "!0:3 !2:5 4:2 -> !1:5 !3:3 4:2"},
        {Reshape{{1, 4, 1}}, "f32[4]", "0:4 -> 1 0:4 1"},
        {Binary{BinaryFn::add}, "f32[4, 1, 3], f32[2, 1]", "0:4 1 2:3, 1:2 1 -> 0:4 1:2 2:3"},
        {Binary{BinaryFn::add}, "f32[2, 3], f32[]", "0:2 1:3,  -> 0:2 1:3"},
        {Reduce{ReduceFn::sum, {1}}, "f32[2, 3]", "0:2 1:3 -> 0:2"},
        {Reduce{ReduceFn::max, {1}}, "f32[2, 3]", "0:2 1:3 -> 0:2"},
        {Expand{{0}}, "f32[3], f32[2, 3]", "1:3, ~0:2 1:3 -> 0:2 1:3"},
        {Softmax{}, "f32[2, 3]", ".0:2 !n:3 -> .0:2 !n:3"},
        {Transpose{{1, 0}}, "f32[2, 3]", "0:2 1:3 -> 1:3 0:2"},
        {Slice{1, 0, 2}, "f32[2, 3]", "0:2 !1:3 -> 0:2 !out:2"},
        {Concat{0}, "f32[2, 3], f32[4, 3]", "!0:2 1:3, !in1:4 1:3 -> !out:6 1:3"},
        {RmsNormGradient{}, "f32[2, 4], f32[2, 4], f32[4], f32[2]",
         ".0:2 !d:4, .0:2 !d:4, !d:4, .0:2 -> .0:2 !d:4, !d:4"},
        {CrossEntropy{}, "f32[2, 7], i32[2]", ".0:2 !v:7, .0:2 -> .0:2, .0:2"},
        {LinearCrossEntropyGradient{}, "f32[2, 4], f32[7, 4], i32[2], f32[2], f32[2]",
         ".0:2 !d:4, v:7 !d:4, .0:2, .0:2, .0:2 -> .0:2 !d:4, v:7 !d:4"},
        {LinearLossBlocks{8, 0, 3}, "f32[2, 4], f32[6, 4], i32[2]",
         ".0:2 !d:4, (b:3 !v:2) !d:4, .0:2 -> .0:2 b:3, .0:2 b:3"},
        {Embedding{}, "i32[2, 3], f32[7, 4]", ".0:2 .1:3, v:7 d:4 -> .0:2 .1:3 d:4"},
        {EmbeddingGradient{}, "i32[2, 3], f32[2, 3, 4], f32[7, 4]",
         ".0:2 .1:3, .0:2 .1:3 d:4, ~v:7 d:4 -> v:7 d:4"},
        {AdamWUpdate{}, "f32[3], f32[3], f32[3], f32[3], f32[], i32[]",
         ".0:3, .0:3, .0:3, .0:3, ,  -> .0:3, .0:3, .0:3"},
        {AdamWUpdate{.scaled = true, .stochastic = true},
         "bf16[3], f32[3], f32[3], f32[3], f32[], i32[], i32[2], f32[]",
         ".0:3, .0:3, .0:3, .0:3, , , !key:2,  -> .0:3, .0:3, .0:3"},
        {StochasticRound{}, "f32[3, 4], i32[2]", ".0:3 .1:4, !key:2 -> .0:3 .1:4"},
        {MaxAbsolute{}, "f32[2, 3]", "0:2 1:3 -> "},
        {Squares{}, "f32[2, 3], f32[]", "0:2 1:3,  -> !hi_lo:2"},
        {NormOfSquares{}, "i64[2], f32[]", "!hi_lo:2,  -> "},
        {Fold{}, "f32[2, 3], f32[2, 3], f32[2, 3]", ".0:2 .1:3, .0:2 .1:3, .0:2 .1:3 -> .0:2 .1:3"},
        {Full{0, f32, {2, 3}}, "", " -> 0:2 1:3"},
    };
    for (auto const& row : rows) {
        CAPTURE(row.op.text(), row.in);
        CHECK(rule_text(row.op.rule(metas(row.in))) == row.rule);
    }
}

TEST_CASE("sums of zeros and of integers are exact, sums of gradients are not") {
    CHECK(Embedding{}.rule(metas("i32[2], f32[7, 4]")).exact);
    CHECK(Reduce{ReduceFn::sum, {0}}.rule(metas("u8[2]")).exact);
    CHECK(Squares{}.rule(metas("f32[2], f32[]")).exact);
    CHECK(!EmbeddingGradient{}.rule(metas("i32[2], f32[2, 4], f32[7, 4]")).exact);
    CHECK(!Reduce{ReduceFn::sum, {0}}.rule(metas("f32[2]")).exact);
}

TEST_CASE("rules say how blocks become the whole, and what may come before they have") {
    auto g = metas("f32[2, 3]"), pair = metas("f32[2], f32[2]");
    CHECK(Reduce{ReduceFn::sum, {0}}.rule(g).combine == Combine::sum);
    CHECK(MaxAbsolute{}.rule(g).combine == Combine::max);
    CHECK(Squares{}.rule(metas("f32[2, 3], f32[]")).combine == Combine::integer_sum);
    for (auto how : {Combine::sum, Combine::max, Combine::integer_sum}) {
        CHECK(Fold{how}.rule(pair).combine == how);
        CHECK(Fold{how}.rule(pair).passes);
    }
    CHECK(!MaxAbsolute{}.rule(g).passes);
}

TEST_CASE("ops that hold sizes fit them to a block") {
    AnyOp reshape = Reshape{{6, 4}}, full = Full{2, f32, {4, 3}}, iota = Iota{1, i32, {4, 6}};
    CHECK(reshape.localized(metas("f32[1, 3, 4]"), metas("f32[3, 4]")).text() == "reshape(shape=[3, 4])");
    CHECK(full.localized({}, metas("f32[2, 3]")).text() == "full(value=2, dtype=f32, shape=[2, 3])");
    CHECK(iota.localized({}, metas("i32[4, 3]")).text() == "iota(dim=1, dtype=i32, shape=[4, 3])");
    AnyOp slice = Slice{1, 0, 2};
    CHECK(slice.localized(metas("f32[2, 3]"), metas("f32[2, 2]")).text() == slice.text());
}
