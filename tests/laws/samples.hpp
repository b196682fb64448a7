#pragma once

#include "plait/graph/parts.hpp"
#include "plait/ops/attention.hpp"
#include "plait/ops/cache.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/norm.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"
#include "plait/ops/view.hpp"

#include <string>
#include <vector>

/// Every op with every variant of its attributes on small odd shapes: the table that the laws run over. A new
/// op gets a row here.
namespace tests {

using namespace plait;

/// An input of a sample: random numbers from [low, high), whole ones where the dtype is.
struct SampleInput {
    Meta meta;
    double low = -1, high = 1;
    bool differentiable = true;
    bool wide = false;  // f32 where others are bf16
};

struct Sample {
    std::string name;
    AnyOp op;
    std::vector<SampleInput> in;
    std::vector<int> outputs{0};  // those that may have a cotangent

    Metas metas() const {
        Metas m;
        for (auto const& i : in) m.push_back(i.meta);
        return m;
    }
};

inline SampleInput any(Shape shape) { return {{f64, shape}}; }
inline SampleInput positive(Shape shape) { return {{f64, shape}, 0.5, 2}; }
inline SampleInput wide(SampleInput in) { return in.wide = true, in; }
inline SampleInput fixed(SampleInput in) { return in.differentiable = false, in; }
inline SampleInput indices(Shape shape, int low, int high) {
    return {{i32, shape}, static_cast<double>(low), static_cast<double>(high), false};
}
inline SampleInput mask(Shape shape) { return {{u8, shape}, 0, 2, false}; }

inline void elementwise_samples(std::vector<Sample>& s) {
    for (int i = 0; i <= static_cast<int>(UnaryFn::is_finite); ++i) {
        auto fn = static_cast<UnaryFn>(i);
        bool root =
            fn == UnaryFn::log || fn == UnaryFn::sqrt || fn == UnaryFn::rsqrt || fn == UnaryFn::reciprocal;
        auto x = root ? positive({3, 5}) : SampleInput{{f64, {3, 5}}, -3, 3};
        auto name = std::string(name_of(fn));
        s.push_back({name, Unary{fn}, {x}});
        if (fn != UnaryFn::is_finite) s.push_back({name + " gradient", UnaryGradient{fn}, {x, any({3, 5})}});
    }
    s.push_back({"gelu of a scalar", Unary{UnaryFn::gelu}, {any({})}});
    s.push_back({"affine", Affine{-1.5, 0.25}, {any({2, 1, 3})}});

    struct Pair {
        char const* name;
        Shape a, b;
    };
    Pair const pairs[] = {{"", {3, 5}, {3, 5}},
                          {" a gain", {2, 3, 5}, {5}},
                          {" from the left", {5}, {3, 5}},
                          {" a scalar", {2, 3}, {}},
                          {" scalars", {}, {}},
                          {" a column", {3, 5}, {3, 1}},
                          {" both ways", {2, 1, 3, 1}, {4, 1, 5}},
                          {" sizes of 1", {1, 1}, {1}}};
    for (int i = 0; i <= static_cast<int>(BinaryFn::less); ++i) {
        auto fn = static_cast<BinaryFn>(i);
        for (auto const& p : pairs)
            s.push_back({std::string(name_of(fn)) + p.name,
                         Binary{fn},
                         {any(p.a), fn == BinaryFn::divide ? positive(p.b) : any(p.b)}});
    }
    for (auto fn : {BinaryFn::equal, BinaryFn::not_equal, BinaryFn::less})
        s.push_back({std::string(name_of(fn)) + " integers",
                     Binary{fn},
                     {indices({4, 3}, -2, 3), indices({}, 0, 2)}});
    s.push_back({"add integers", Binary{BinaryFn::add}, {indices({4, 3}, -9, 9), indices({3}, -9, 9)}});

    s.push_back({"cast to f32", Cast{f32}, {fixed(any({3, 5}))}});
    s.push_back({"cast to bf16", Cast{bf16}, {fixed(any({3, 5}))}});
    s.push_back({"cast to i32", Cast{i32}, {fixed({{f64, {7}}, -5, 5})}});
    s.push_back({"cast of i32", Cast{f64}, {indices({2, 3}, -5, 5)}});
    s.push_back({"cast of u8", Cast{f64}, {mask({2, 3})}});
    s.push_back({"cast to itself", Cast{f64}, {any({2, 3})}});
    s.push_back({"select", Select{}, {mask({3, 4}), any({3, 4}), any({3, 4})}});
    s.push_back({"full", Full{-2.5, f64, {2, 3}}, {}});
    s.push_back({"full of integers", Full{7, i32, {4}}, {}});
    s.push_back({"iota", Iota{1, i32, {2, 3, 4}}, {}});
    s.push_back({"iota of floats", Iota{0, f64, {5, 2}}, {}});
    s.push_back({"swiglu", SwiGlu{}, {any({2, 3, 5}), any({2, 3, 5})}, {0}});
    s.push_back({"swiglu gradient", SwiGluGradient{}, {any({3, 5}), any({3, 5}), any({3, 5})}, {0, 1}});
    s.push_back({"dropout", Dropout{0.3, 7}, {any({4, 3, 5}), indices({2}, 0, 1000)}});
}

inline void reduce_samples(std::vector<Sample>& s) {
    for (auto fn : {ReduceFn::sum, ReduceFn::max}) {
        auto name = std::string(name_of(fn));
        s.push_back({name, Reduce{fn, {0, 1}}, {any({3, 5})}});
        s.push_back({name + " of the last", Reduce{fn, {2}}, {any({2, 3, 5})}});
        s.push_back({name + " of the first", Reduce{fn, {0}}, {any({3, 4})}});
        s.push_back({name + " of the outer two of four", Reduce{fn, {0, 2}}, {any({2, 3, 4, 5})}});
        s.push_back({name + " of one element", Reduce{fn, {1}}, {any({3, 1})}});
        s.push_back({name + " of nothing", Reduce{fn, {}}, {any({3, 2})}});
        s.push_back({name + " of integers", Reduce{fn, {1}}, {indices({3, 5}, -9, 9)}});
    }
    s.push_back({"sum of u8", Reduce{ReduceFn::sum, {0, 1}}, {mask({3, 5})}});
    s.push_back({"expand", Expand{{1}}, {any({2, 3}), fixed(any({2, 4, 3}))}});
    s.push_back({"expand outer and inner", Expand{{0, 3}}, {any({3, 4}), fixed(any({2, 3, 4, 5}))}});
    s.push_back({"expand a scalar", Expand{{0, 1}}, {any({}), fixed(any({2, 3}))}});
    s.push_back({"expand nothing", Expand{{}}, {any({2, 3}), fixed(any({2, 3}))}});
    for (Shape const& shape : {Shape{2, 3, 5}, Shape{7}, Shape{3, 1}}) {
        auto rank = " of rank " + std::to_string(shape.rank());
        s.push_back({"softmax" + rank, Softmax{}, {{{f64, shape}, -3, 3}}});
        s.push_back({"softmax gradient" + rank, SoftmaxGradient{}, {positive(shape), any(shape)}});
    }
}

inline void view_samples(std::vector<Sample>& s) {
    struct Change {
        Shape from, to;
    };
    Change const changes[] = {{{4, 6}, {24}},
                              {{24}, {2, 3, 4}},
                              {{2, 3, 8}, {2, 3, 4, 2}},
                              {{4, 6}, {6, 4}},
                              {{2, 4, 3, 5}, {8, 15}},
                              {{1, 5}, {5, 1, 1}},
                              {{6, 5}, {3, 10}},
                              {{3, 5}, {5, 3}},
                              {{2, 9, 4}, {2, 6, 6}},
                              {{1}, {}},
                              {{}, {1, 1}},
                              {{12, 5}, {3, 4, 5}}};
    for (auto const& c : changes)
        s.push_back(
            {"reshape " + to_string(c.from) + " to " + to_string(c.to), Reshape{c.to}, {any(c.from)}});
    s.push_back({"transpose", Transpose{{1, 0}}, {any({3, 5})}});
    s.push_back({"transpose heads", Transpose{{0, 2, 1, 3}}, {any({2, 3, 4, 5})}});
    s.push_back({"transpose around", Transpose{{2, 0, 1}}, {any({2, 3, 5})}});
    s.push_back({"transpose of one dim", Transpose{{0}}, {any({3})}});
    s.push_back({"slice the first", Slice{0, 1, 2}, {any({4, 3})}});
    s.push_back({"slice the middle", Slice{1, 0, 3}, {any({2, 5, 3})}});
    s.push_back({"slice of everything", Slice{1, 0, 3}, {any({2, 3})}});
    s.push_back({"part", Part{1, 2, 3}, {any({2, 6, 3})}, {}});
    s.push_back({"part of the first", Part{0, 0, 2}, {any({4, 3})}, {}});
    s.push_back({"leaf tree", LeafTree{8, 1}, {any({16, 3})}, {}});
    s.push_back({"leaf tree of chains", LeafTree{12, 3}, {any({12, 5})}, {}});
    s.push_back({"join", Join{1}, {any({2, 3, 4}), any({2, 1, 4}), any({2, 5, 4})}, {}});
    s.push_back({"pad", Pad{1, 2, 1}, {any({2, 3, 4})}});
    s.push_back({"pad with nothing", Pad{0, 0, 0}, {any({3})}});
    s.push_back({"concat", Concat{1}, {any({2, 3, 4}), any({2, 1, 4}), any({2, 5, 4})}});
    s.push_back({"concat of one", Concat{0}, {any({3, 2})}});
    s.push_back({"concat of rank 1", Concat{0}, {any({3}), any({2})}});
}

inline void matmul_samples(std::vector<Sample>& s) {
    using enum ProductForm;
    s.push_back({"product nt", Product{nt}, {any({2, 3, 5}), any({7, 5})}});
    s.push_back({"product nn", Product{nn}, {any({2, 3, 7}), any({7, 5})}});
    s.push_back({"product tn", Product{tn}, {any({2, 3, 7}), any({2, 3, 5})}});
    s.push_back({"product nt of a vector", Product{nt}, {any({5}), any({3, 5})}});
    s.push_back({"product tn of vectors", Product{tn}, {any({3}), any({5})}});
    s.push_back({"product nn with a width of 1", Product{nn}, {any({4, 1}), any({1, 3})}});
    s.push_back({"products nt", Product{nt, 2}, {any({3, 5}), any({4, 5}), any({3, 5}), any({4, 5})}});
    s.push_back({"products nn of q, k and v",
                 Product{nn, 3},
                 {any({2, 3, 8}), any({8, 5}), any({2, 3, 4}), any({4, 5}), any({2, 3, 4}), any({4, 5})}});
    s.push_back({"products tn", Product{tn, 2}, {any({4, 3}), any({4, 5}), any({4, 3}), any({4, 5})}});
    s.push_back({"products tn of other batches",
                 Product{tn, 2},
                 {any({4, 3}), any({4, 5}), any({2, 2, 3}), any({2, 2, 5})}});
    s.push_back({"linear", Linear{Epilogue::bias}, {any({2, 3, 5}), any({7, 5}), any({7})}});
    s.push_back({"linear gelu", Linear{Epilogue::bias_gelu}, {any({3, 5}), any({7, 5}), any({7})}, {0, 1}});
    SampleInput bent{{f64, {2, 3, 5}}, -3, 3};
    s.push_back({"product gelu gradient", ProductGeluGradient{}, {any({2, 3, 7}), any({7, 5}), bent}});
    s.push_back(
        {"product gelu gradient of a vector", ProductGeluGradient{}, {any({4}), any({4, 3}), any({3})}});
    s.push_back({"linear gradient", LinearGradient{}, {any({2, 3, 7}), any({2, 3, 5})}});
    s.push_back({"linear gradient of even columns", LinearGradient{}, {any({5, 8}), any({5, 3})}});
    s.push_back({"linear gradient of a vector", LinearGradient{}, {any({4}), any({3})}});
    for (bool a : {false, true})
        for (bool b : {false, true}) {
            auto name = std::string("matmul ") + (a ? "t" : "n") + (b ? "t" : "n");
            s.push_back({name,
                         MatMul{a, b},
                         {any(a ? Shape{5, 3} : Shape{3, 5}), any(b ? Shape{4, 5} : Shape{5, 4})}});
            s.push_back({name + " in a batch",
                         MatMul{a, b},
                         {any(a ? Shape{2, 3, 5, 1} : Shape{2, 3, 1, 5}),
                          any(b ? Shape{2, 3, 4, 5} : Shape{2, 3, 5, 4})}});
        }
}

inline void norm_samples(std::vector<Sample>& s) {
    auto rows = any({2, 3, 5}), row = any({5}), each = wide(any({2, 3})), spread = wide(positive({2, 3}));
    s.push_back({"layer norm", LayerNorm{}, {rows, row, row}});
    s.push_back({"layer norm of a vector", LayerNorm{1e-2}, {row, row, row}});
    s.push_back({"layer norm with residual", LayerNorm{1e-5, true}, {rows, rows, row, row}, {0, 3}});
    s.push_back({"layer norm gradient", LayerNormGradient{}, {rows, rows, row, each, spread}, {0, 1, 2}});
    s.push_back({"layer norm gradient with residual",
                 LayerNormGradient{true},
                 {rows, rows, row, each, spread, rows},
                 {0, 1, 2}});
    s.push_back({"rms norm", RmsNorm{}, {rows, row}});
    s.push_back({"rms norm of a vector", RmsNorm{1e-2}, {row, row}});
    s.push_back({"rms norm with residual", RmsNorm{1e-6, true}, {rows, rows, row}, {0, 2}});
    s.push_back({"rms norm gradient", RmsNormGradient{}, {rows, rows, row, spread}, {0, 1}});
    s.push_back(
        {"rms norm gradient with residual", RmsNormGradient{true}, {rows, rows, row, spread, rows}, {0, 1}});
}

inline void attention_samples(std::vector<Sample>& s) {
    s.push_back({"rope table", RopeTable{5, 4, 100}, {}});
    for (bool inverse : {false, true})
        s.push_back(
            {inverse ? "rope back" : "rope", Rope{inverse}, {any({2, 3, 2, 4}), fixed(any({3, 2, 2}))}});
    s.push_back({"rope at", RopeAt{4, 100}, {indices({2, 3}, -1, 9)}});
    s.push_back({"rope of each token", Rope{}, {any({2, 3, 2, 4}), fixed(any({2, 3, 2, 2}))}});
    s.push_back({"rope of rank 3", Rope{}, {any({3, 2, 4}), fixed(any({3, 2, 2}))}});
    struct Heads {
        char const* name;
        std::int64_t seq, keys, heads, kv_heads;
    };
    Heads const all[] = {{"", 5, 5, 2, 2},
                         {" grouped", 5, 5, 4, 2},
                         {" multi-query", 3, 3, 3, 1},
                         {" of one key", 1, 1, 2, 1},
                         {" over other keys", 3, 4, 2, 2}};
    for (bool causal : {true, false})
        for (auto const& h : all) {
            auto name = std::string(causal ? "causal attention" : "attention") + h.name;
            auto q = any({2, h.seq, h.heads, 3}), k = any({2, h.keys, h.kv_heads, 3});
            s.push_back({name, Attention{causal}, {q, k, k}});
            SampleInput lse{{f64, {2, h.heads, h.seq}}, 1, 2};
            s.push_back(
                {name + " gradient", AttentionGradient{causal}, {q, k, k, q, wide(lse), q}, {0, 1, 2}});
        }
}

inline void cache_samples(std::vector<Sample>& s) {
    for (std::int64_t n : {1, 3}) {
        auto name = n == 1 ? "" : " of chunks";
        auto slot = indices({2}, 0, 3), positions = indices({2, n}, -1, 4), cache = any({3, 4, 2, 3});
        s.push_back({std::string("cache write") + name,
                     CacheWrite{},
                     {cache, any({2, n, 2, 3}), slot, positions},
                     {}});
        s.push_back({std::string("cached attention") + name,
                     CachedAttention{},
                     {any({2, n, 4, 3}), cache, cache, slot, positions},
                     {}});
    }
}

inline void loss_samples(std::vector<Sample>& s) {
    auto targets = indices({2, 3}, -3, 7);  // some are ignored
    auto each = wide(any({2, 3})), logits = any({2, 3, 7});
    s.push_back({"cross entropy", CrossEntropy{}, {logits, targets}});
    s.push_back({"cross entropy of one row", CrossEntropy{}, {any({7}), indices({}, 0, 7)}});
    s.push_back({"cross entropy all ignored", CrossEntropy{}, {any({4, 7}), indices({4}, -5, 0)}});
    s.push_back({"pick", Pick{}, {any({4, 7}), indices({4}, -2, 7)}});
    s.push_back({"pick of rank 3", Pick{}, {any({2, 3, 5}), indices({2, 3}, 0, 5)}});
    s.push_back({"cross entropy gradient", CrossEntropyGradient{}, {logits, targets, each, each}});
    auto known = indices({2, 3}, -3, 5);  // the last two classes are padding
    s.push_back({"cross entropy of five classes", CrossEntropy{5}, {logits, known}});
    s.push_back(
        {"cross entropy gradient of five classes", CrossEntropyGradient{5}, {logits, known, each, each}});
    auto x = any({2, 3, 5}), w = any({7, 5});
    for (std::int64_t classes : {0, 5})
        for (std::int64_t chunk : {1, 4, 1024}) {
            auto name = "linear cross entropy by " + std::to_string(chunk);
            if (classes) name += " of five classes";
            auto const& at = classes ? known : targets;
            s.push_back({name, LinearCrossEntropy{chunk, classes}, {x, w, at}});
            s.push_back(
                {name + " in three blocks", LinearCrossEntropy{chunk, classes, 3}, {x, any({9, 5}), at}});
            s.push_back({name + ", what three blocks say",
                         LinearLossBlocks{chunk, classes, 3},
                         {x, any({9, 5}), at},
                         {}});
            s.push_back({name + " gradient",
                         LinearCrossEntropyGradient{chunk, classes},
                         {x, w, at, each, each},
                         {0, 1}});
            s.push_back(
                {name + " step", LinearCrossEntropyStep{chunk, classes}, {x, w, at, each}, {0, 2, 3}});
        }
}

inline void embedding_samples(std::vector<Sample>& s) {
    for (Shape const& shape : {Shape{2, 3}, Shape{7}, Shape{}}) {
        auto out = shape;
        out.push_back(3);
        auto rank = " of rank " + std::to_string(shape.rank());
        s.push_back({"embedding" + rank, Embedding{}, {indices(shape, 0, 5), any({5, 3})}});
        s.push_back({"embedding gradient" + rank,
                     EmbeddingGradient{},
                     {indices(shape, 0, 5), any(out), fixed(any({5, 3}))}});
    }
}

inline void update_samples(std::vector<Sample>& s) {
    for (int which = 0; which < 8; ++which) {
        bool scaled = which & 1, guarded = which & 2, stochastic = which & 4;
        Sample one{"adamw", AdamWUpdate{0.9, 0.99, 1e-8, 0.1, scaled, guarded, stochastic, 7}, {}, {}};
        one.in = {any({3, 5}), any({3, 5}), any({3, 5}), positive({3, 5}), positive({}), indices({}, 1, 9)};
        if (stochastic) one.name += " stochastic", one.in.push_back(indices({2}, 0, 1000));
        if (scaled) one.name += " scaled", one.in.push_back(positive({}));
        if (guarded) one.name += " guarded", one.in.push_back(mask({}));
        s.push_back(one);
    }
    s.push_back({"adamw of a scalar",
                 AdamWUpdate{},
                 {any({}), any({}), any({}), positive({}), any({}), indices({}, 1, 2)},
                 {}});
    s.push_back({"stochastic round", StochasticRound{7}, {fixed(any({4, 3, 5})), indices({2}, 0, 1000)}, {}});
    s.push_back({"commit", Commit{}, {any({3, 2}), any({3, 2}), mask({})}, {}});
}

inline void gradient_norm_samples(std::vector<Sample>& s) {
    for (Shape const& shape : {Shape{3, 5}, Shape{}, Shape{2, 4, 3}}) {
        auto rank = " of rank " + std::to_string(shape.rank());
        s.push_back({"max absolute" + rank, MaxAbsolute{}, {any(shape)}});
        s.push_back({"squares" + rank, Squares{20}, {any(shape), fixed(positive({}))}, {}});
    }
    SampleInput sums{{i64, {2}}, 0, 1 << 20, false};
    s.push_back({"norm of squares", NormOfSquares{20}, {sums, fixed(positive({}))}, {}});
    s.push_back({"fold of one", Fold{}, {any({3, 5})}});
    s.push_back({"fold by sum", Fold{}, {any({3, 5}), any({3, 5}), any({3, 5})}});
    s.push_back({"fold by max", Fold{Combine::max}, {any({3, 5}), any({3, 5}), any({3, 5})}});
    s.push_back({"fold of integers", Fold{Combine::integer_sum}, {sums, sums, sums}, {}});
    s.push_back({"fold of small integers", Fold{}, {indices({7}, -9, 9), indices({7}, -9, 9)}, {}});
}

inline void part_samples(std::vector<Sample>& s) {
    for (int dim : {0, 1, 2}) {
        auto along = " along dim " + std::to_string(dim);
        Shape a{4, 4, 4}, b = a;
        b[dim] = 3;
        s.push_back({"part" + along, Part{dim, 1, 2}, {any(a)}, {}});
        s.push_back({"join" + along, Join{dim}, {any(a), any(b), any(a)}, {}});
    }
    s.push_back({"part of integers", Part{0, 2, 3}, {indices({7}, 0, 9)}, {}});
    s.push_back({"join of one", Join{1}, {any({2, 3})}, {}});
}

inline std::vector<Sample> samples() {
    std::vector<Sample> s;
    elementwise_samples(s);
    reduce_samples(s);
    view_samples(s);
    matmul_samples(s);
    norm_samples(s);
    attention_samples(s);
    cache_samples(s);
    loss_samples(s);
    embedding_samples(s);
    update_samples(s);
    gradient_norm_samples(s);
    part_samples(s);
    return s;
}

}  // namespace tests
