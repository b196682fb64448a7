#include "catch.hpp"
#include "plait/autograd/recompute.hpp"
#include "plait/graph/parts.hpp"
#include "plait/graph/pass.hpp"
#include "plait/passes/fusion.hpp"
#include "plait/passes/grouped_heads.hpp"
#include "plait/passes/lower.hpp"
#include "plait/passes/precision.hpp"
#include "plait/passes/split_loss.hpp"
#include "plait/plait.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

using namespace plait;

namespace {

models::Config small() {
    models::Config c;
    c.dim = 32, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.hidden = 48, c.vocab = 40, c.seq = 12;
    return c;
}

/// Loss and all gradients of a model on a constant batch.
template <class Model>
std::vector<Output> recorded(Model& model) {
    std::vector<std::int32_t> ids, next;
    for (int i = 0; i < 36; ++i) ids.push_back(i * 7 % 40), next.push_back(i % 5 ? i * 11 % 40 : -1);
    Tensor tokens{Array(Shape{3, 12}, ids)}, targets{Array(Shape{3, 12}, next)};
    auto [loss, g] = value_and_gradients(model, [&] { return models::loss(model, tokens, targets); });
    auto norm = clip_norm(g, 0.5);
    std::vector<Output> outputs{{"loss", loss.value()}, {"norm", norm.value()}};
    for (auto const& [p, d] : g.entries) outputs.push_back({p->path, d.value()});
    return outputs;
}

std::vector<Array> values(Graph const& g) {
    Tensors t;
    for (auto const& o : g.outputs) t.emplace_back(o.value);
    return evaluate(t);
}

double largest_distance(Graph const& a, Graph const& b) {
    auto x = values(a), y = values(b);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        double difference = 0, norm = 0;
        for (std::int64_t k = 0; k < x[i].meta().elements(); ++k) {
            difference += std::pow(x[i].at(k) - y[i].at(k), 2);
            norm += std::pow(x[i].at(k), 2);
        }
        if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
        worst = std::max(worst, std::sqrt(difference) / std::max(std::sqrt(norm), 1e-4));
    }
    return worst;
}

/// Numbers that are not alike, as a constant.
Tensor numbers(Shape shape, float step) {
    std::vector<float> x;
    for (std::int64_t i = 0; i < shape.elements(); ++i) x.push_back(std::sin(step * static_cast<float>(i)));
    return Tensor(Array(shape, x));
}

int count(Graph const& g, std::string_view op) {
    return static_cast<int>(
        std::count_if(g.nodes.begin(), g.nodes.end(), [&](auto const& n) { return n->op.name() == op; }));
}

}  // namespace

TEMPLATE_TEST_CASE("passes keep what is computed", "", models::Llama, models::Gpt2) {
    TestType model(small());
    Graph plain = Graph::of(recorded(model));
    CHECK(largest_distance(plain, merge_common(plain)) == 0);
    CHECK(largest_distance(plain, fuse(merge_common(plain))) < 2e-6);
    CHECK(largest_distance(plain, recompute(plain, {"blocks.*"})) == 0);
    CHECK(largest_distance(plain, fuse(recompute(plain, {"blocks.*.mlp", "blocks.0"}))) < 2e-6);
    CHECK(largest_distance(plain, lower_precision(plain, bf16)) < 0.05);
    CHECK(largest_distance(plain, lower_precision(plain, bf16)) > 1e-5);
    // Everything by its meaning in the simplest ops.
    auto simplest = expand_definitions(plain, [](std::string_view op) {
        return op == "matmul" || op == "binary" || op == "unary" || op == "affine" || op == "cast" ||
               op == "full" || op == "iota" || op == "reduce" || op == "expand" || op == "reshape" ||
               op == "transpose" || op == "select" || op == "slice" || op == "pad" || op == "concat" ||
               op == "rope_table";
    });
    CHECK(largest_distance(plain, simplest) < 1e-4);
}

TEST_CASE("a changed graph is noticed") {
    models::Llama model(small());
    Graph plain = Graph::of(recorded(model));
    int adds = 0;
    auto broken = rewrite(plain, [&](Node const& n, Rewriter& r) -> std::vector<Value> {
        auto const* b = n.op.as<Binary>();
        if (!b || b->fn != BinaryFn::add || n.outputs[0].shape.rank() != 3 || ++adds != 3) return {};
        return {r.mapped(n.inputs[0])};
    });
    CHECK(largest_distance(plain, broken) > 1e-3);
}

TEST_CASE("fusion leaves no residual add, bias or clipping apart") {
    models::Llama llama(small());
    auto g = fuse(merge_common(Graph::of(recorded(llama))));
    CHECK(count(g, "linear_cross_entropy_step") == 1);
    CHECK(count(g, "linear_cross_entropy") == 0);
    for (auto const& n : g.nodes) {
        auto const* b = n->op.as<Binary>();
        if (b && b->fn == BinaryFn::add) CHECK(n->outputs[0].shape.rank() < 3);
    }
    models::Gpt2 gpt2(small());
    g = fuse(merge_common(Graph::of(recorded(gpt2))));
    CHECK(count(g, "linear") == 12);
    for (auto const& n : g.nodes)
        if (auto const* u = n->op.as<Unary>()) CHECK(u->fn != UnaryFn::gelu);
    for (auto const& again : {g, fuse(lower_precision(merge_common(Graph::of(recorded(gpt2))), bf16)),
                              fuse(recompute(Graph::of(recorded(gpt2)), {"blocks.*.mlp"}))}) {
        CHECK(count(again, "product_gelu_gradient") == 2);
        CHECK(count(again, "unary_gradient") == 0);
        CHECK(count(again, "linear_gradient") == 12);
        for (auto const& n : again.nodes)
            if (auto const* sum = n->op.as<Reduce>())
                CHECK((sum->dims.size() < 2 || n->inputs[0].meta().shape.rank() < 3));
    }
}

TEST_CASE("a bias's gradient is made with its weight's, unless somebody asks for it before") {
    Tensor dy = numbers({5, 3, 7}, 0.7f), x = numbers({5, 3, 6}, 1.3f);
    OriginScope scope(Origin{"mlp.up", Phase::backward, false});
    auto joined = [](std::vector<Output> const& outputs, auto const&... apart) {
        auto const plain = Graph::of(outputs), fused = fuse(plain, apart...);
        CHECK(largest_distance(plain, fused) == 0);
        CHECK(count(fused, "linear_gradient") + count(fused, "product") == count(plain, "product"));
        CHECK(count(fused, "reduce") == count(plain, "reduce") - count(fused, "linear_gradient"));
        return count(fused, "linear_gradient");
    };
    auto dw = [&](Tensor const& a) { return product(ProductForm::tn, a, x); };
    // Before it and after it, and read later on.
    Tensor db = sum(dy, {0, 1}), first = dw(dy), later = sum(dy, {0, 1});
    CHECK(joined({{"dw", first.value()}, {"db", db.value()}}) == 1);
    CHECK(joined({{"dw", first.value()}, {"db", later.value()}}) == 1);
    CHECK(joined({{"dw", first.value()}, {"db", exp(db).value()}}) == 1);
    // One product takes one sum.
    CHECK(joined({{"dw", first.value()}, {"db", db.value()}, {"again", later.value()}}) == 1);
    Tensor second = dw(dy);
    CHECK(joined({{"dw", first.value()}, {"dw2", second.value()}, {"db", db.value()}}) == 1);

    Tensor early = sum(dy, {0, 1}), read = exp(early), after = dw(dy);
    CHECK(joined({{"dw", after.value()}, {"db", early.value()}, {"read", read.value()}}) == 0);
    CHECK(joined({{"dw", first.value()}, {"another sum", sum(x, {0, 1}).value()}}) == 0);
    CHECK(joined({{"dw", first.value()}, {"fewer dims", sum(dy, {0}).value()}}) == 0);
    CHECK(joined({{"dw", first.value()}, {"columns", sum(dy, {0, 2}).value()}}) == 0);
    CHECK(joined({{"dw", first.value()}, {"largest", max(dy, {0, 1}).value()}}) == 0);
    // Sizes tell nothing where all are alike.
    Tensor cube = numbers({6, 6, 6}, 0.9f), of_cube = product(ProductForm::tn, cube, cube);
    for (auto const& dims : {std::vector<int>{0, 2}, std::vector<int>{1, 2}})
        CHECK(joined({{"dw", of_cube.value()}, {"other dims", sum(cube, dims).value()}}) == 0);
    CHECK(joined({{"dw", of_cube.value()}, {"db", sum(cube, {0, 1}).value()}}) == 1);
    Tensor two = apply_one(Product{ProductForm::tn, 2}, {dy, x, dy, x});
    CHECK(joined({{"two terms", two.value()}, {"db", db.value()}}) == 0);
    OriginScope elsewhere(Origin{"head", Phase::backward, false});
    auto stages = [](std::string_view a, std::string_view b) { return a != b; };
    Tensor other = sum(dy, {0, 1});
    CHECK(joined({{"dw", first.value()}, {"db", other.value()}}) == 1);
    CHECK(joined({{"dw", first.value()}, {"db", other.value()}}, stages) == 0);
}

TEST_CASE("GELU's gradient joins a product whose value nobody else asks for, and keeps its bits") {
    Tensor y = numbers({5, 7}, 0.7f), w = numbers({7, 6}, 1.3f), x = numbers({5, 6}, 0.3f);
    auto under = [](std::string path, Phase phase, auto f) {
        OriginScope scope(Origin{std::move(path), phase, false});
        return f();
    };
    auto backward = [&](std::string path, auto f) { return under(std::move(path), Phase::backward, f); };
    auto slope_of = [](UnaryFn fn) {
        return [fn](Tensor const& at, Tensor const& d) { return apply_one(UnaryGradient{fn}, {at, d}); };
    };
    auto bend = slope_of(UnaryFn::gelu);
    Tensor dy = backward("mlp.down", [&] { return product(ProductForm::nn, y, w); });
    Tensor dx = backward("mlp", [&] { return bend(x, dy); });

    auto const plain = Graph::of({{"dx", dx.value()}});
    CHECK(count(fuse(plain), "product_gelu_gradient") == 1);
    CHECK(count(fuse(plain), "product") == 0);
    CHECK(largest_distance(plain, fuse(plain)) == 0);

    auto stays = [](Graph const& g) { return count(fuse(g), "product_gelu_gradient") == 0; };
    CHECK(stays(Graph::of({{"dx", dx.value()}, {"dy", dy.value()}})));
    CHECK(stays(Graph::of({{"dx", dx.value()}, {"other", exp(dy).value()}})));
    CHECK(stays(Graph::of({{"dx", dx.value()}}, {}, {{"dy", dy.value()}})));
    CHECK(count(fuse(Graph::of({{"dx", dx.value()}}, {}, {{"dx", dx.value()}})), "product_gelu_gradient") ==
          1);
    CHECK(stays(Graph::of({{"of itself", bend(dy, dy).value()}})));
    CHECK(stays(Graph::of({{"forward", under("mlp", Phase::forward, [&] { return bend(x, dy); }).value()}})));
    CHECK(stays(
        Graph::of({{"tanh", backward("mlp", [&] { return slope_of(UnaryFn::tanh)(x, dy); }).value()}})));
    auto two = backward("mlp", [&] { return bend(x, apply_one(Product{ProductForm::nn, 2}, {y, w, y, w})); });
    CHECK(stays(Graph::of({{"two terms", two.value()}})));
    // On two stages.
    CHECK(count(fuse(plain, [](auto a, auto b) { return a != "mlp.down" || b != "mlp"; }),
                "product_gelu_gradient") == 1);
    CHECK(count(fuse(plain, [](auto a, auto b) { return a == "mlp.down" && b == "mlp"; }),
                "product_gelu_gradient") == 0);
}

TEST_CASE("kv heads are read once for every block of heads, and what is computed stays") {
    models::Llama model(small());
    auto const plain = Graph::of(recorded(model));
    auto const spread = spread_grouped_heads(plain, 4);
    // Of each layer keys and values, as projected and as read forward and backward, and their gradients.
    CHECK(count(spread, "whole") == 2 * 2 * 4);
    auto one_rank = [](Graph const& g) {
        return rewrite(g, [](Node const& n, Rewriter& r) -> std::vector<Value> {
            return n.op.as<Whole>() ? r.mapped(n.inputs) : std::vector<Value>();
        });
    };
    CHECK(largest_distance(plain, one_rank(spread)) < 2e-6);
    for (auto const& n : spread.nodes)
        if (n->op.as<Attention>()) CHECK(n->inputs[1].meta().shape[2] == 4);
    // Two blocks have a kv head each, and three do not divide the heads.
    for (std::int64_t ways : {1, 2, 3}) CHECK(spread_grouped_heads(plain, ways).text() == plain.text());
    // The gradients of a head's copies are summed up: without that they are others.
    auto const broken = rewrite(spread, [&](Node const& n, Rewriter& r) -> std::vector<Value> {
        auto const* sum = n.op.as<Reduce>();
        if (!sum || n.origin.phase != Phase::backward || n.inputs[0].meta().shape.rank() != 5) return {};
        return values_of(record(Reduce{ReduceFn::max, sum->dims}, r.mapped(n.inputs)));
    });
    CHECK(largest_distance(plain, one_rank(broken)) > 1e-3);
}

TEST_CASE("a loss whose vocabulary is divided makes its logits block by block, in chunks") {
    models::Llama model(small());
    for (bool fused : {false, true}) {
        auto plain = Graph::of(recorded(model));
        if (fused) plain = fuse(merge_common(plain));
        auto expanded = [&](std::int64_t ways) {
            return expand_nodes(split_losses(plain, ways), [](Node const& n) {
                return n.op.as<LinearCrossEntropyStep>() || n.op.as<LinearCrossEntropy>();
            });
        };
        for (std::int64_t ways : {2, 8, 20}) {
            auto g = expanded(ways);
            while (count(g, "linear_cross_entropy"))
                g = expand_nodes(g, [](Node const& n) { return n.op.as<LinearCrossEntropy>() != nullptr; });
            CHECK(count(g, "linear_loss_blocks") == 1);
            CHECK(count(g, "linear_cross_entropy_gradient") == 1);
            CHECK(largest_distance(plain, g) < 2e-6);
            for (auto const& n : g.nodes) CHECK(n->outputs[0].shape != Shape{3, 12, 40});
        }
        CHECK(count(expanded(3), "linear_loss_blocks") == 0);
        CHECK(split_losses(plain, 1).text() == plain.text());
    }
}

TEST_CASE("backward reads what recompute makes again") {
    models::Llama model(small());
    auto plain = Graph::of(recorded(model));
    auto g = recompute(plain, {"blocks.*"});
    int again = 0;
    for (auto const& n : g.nodes) {
        again += n->origin.recomputed;
        if (n->origin.phase != Phase::backward || n->origin.path.find("blocks.") != 0) continue;
        for (auto const& v : n->inputs) {
            bool kept = !source_of(*v.node) && v.node->origin.phase == Phase::forward &&
                        v.node->origin.path.find("blocks.") == 0;
            // Only what leaves a block may come from forward.
            if (kept) CHECK(v.node->op.name() == "binary");
        }
    }
    CHECK(again > 20);
    CHECK_THROWS_WITH(recompute(plain, {"block.*"}), ContainsSubstring("'block.*' names no module"));
}

TEST_CASE("equal nodes merge") {
    Tensor x = full({3}, 2);
    auto g = merge_common(Graph::of({{"y", (exp(x) + exp(x)).value()}}));
    CHECK(count(g, "unary") == 1);
}

TEST_CASE("bf16 compute keeps sums over the batch, statistics and losses in f32") {
    models::Llama model(small());
    auto g = lower_precision(Graph::of(recorded(model)), bf16);
    for (auto const& o : g.outputs) CHECK(o.value.meta().dtype == f32);
    for (auto const& n : g.nodes) {
        if (auto const* p = n->op.as<Product>()) {
            CHECK(n->inputs[0].meta().dtype == bf16);
            CHECK(n->outputs[0].dtype == (p->form == ProductForm::tn ? f32 : bf16));
        }
        if (n->op.as<RmsNorm>()) CHECK(n->outputs[1].dtype == f32);
    }
}

TEST_CASE("bf16 compute takes f32 batch columns, constants and sums as they come") {
    nn::Linear first(6, 5, true), second(5, 4);
    Columns columns{{"x", {f32, {8, 6}}}};
    auto s = std::make_shared<State>(cpu_backend(1));
    first.path = "first", second.path = "second";
    first.weight.variable->path = "a", first.bias->variable->path = "b", second.weight.variable->path = "c";
    s->add({first.weight.variable, first.bias->variable, second.weight.variable});
    Array x(Shape{8, 6}, std::vector<float>(48, 0.5f));
    std::vector<double> losses;
    for (auto dtype : {f32, bf16}) {
        auto step = compile(Plan().compute(dtype), s, columns, [&](Batch const& b) -> Row {
            Tensor h = silu(first(b["x"] + full({8, 6}, 0.25)));
            // A sum over the batch is f32 even where its terms are bf16.
            Tensor y = second(h) + linear(reshape(sum(h, {0}), Shape{1, 5}), second.weight);
            return {{"loss", mean(square(y))}};
        });
        losses.push_back(step({{"x", x}})[0].second.item());
    }
    CHECK(losses[1] == Approx(losses[0]).epsilon(0.02));
    CHECK(losses[1] != losses[0]);
}

TEST_CASE("bf16 compute takes what a researcher writes, and gives results as they were recorded") {
    nn::Parameter w(Shape{6, 6}, Init::normal(0.5));
    w.variable->path = "w";
    auto s = std::make_shared<State>(cpu_backend(1));
    s->add({w.variable});
    std::vector<std::function<Tensor(Tensor const&)>> snippets{
        [&](Tensor const& x) {
            Tensor scores = matmul(x, w);
            return select(less(cast(iota({8, 6}, 1), f32), full({8, 6}, 3)), scores, full_like(scores, -5));
        },
        [&](Tensor const& x) { return max(linear(x, w), {1}); },
        [&](Tensor const& x) {
            return silu(linear(x, w)) * cast(iota({8, 6}, 0), f32);
        },
        [&](Tensor const& x) { return linear(x, tanh(Tensor(w))); },
        [&](Tensor const& x) {
            return concat({linear(x, w), cast(iota({8, 2}, 0), f32)}, 1);
        },
        [&](Tensor const& x) { return softmax(linear(x, w)); },
    };
    Array x(Shape{8, 6}, std::vector<float>(48, 0.25f));
    for (auto const& f : snippets) {
        std::vector<Values> rows;
        for (auto dtype : {f32, bf16}) {
            auto step = compile(Plan().compute(dtype), s, {{"x", {f32, {8, 6}}}}, [&](Batch const& b) -> Row {
                Tensor y = f(b["x"]), loss = sum(square(y));
                return {{"y", y}, {"loss", loss}, {"dw", gradients(loss, {w})[0]}};
            });
            rows.push_back(step({{"x", x}}));
        }
        for (std::size_t i = 0; i < rows[0].size(); ++i) {
            REQUIRE(rows[1][i].second.meta() == rows[0][i].second.meta());
            double scale = 1e-3;
            for (std::int64_t e = 0; e < rows[0][i].second.meta().elements(); ++e)
                scale = std::max(scale, std::abs(rows[0][i].second.at(e)));
            for (std::int64_t e = 0; e < rows[0][i].second.meta().elements(); ++e)
                CHECK(std::abs(rows[1][i].second.at(e) - rows[0][i].second.at(e)) < 0.03 * scale);
        }
    }
}
