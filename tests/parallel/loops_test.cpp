#include "plait/parallel/loops.hpp"
#include "catch.hpp"
#include "plait/core/random.hpp"
#include "plait/plait.hpp"

#include <cmath>
#include <set>

using namespace plait;

namespace {

std::map<std::string, Array> random_batch(Columns const& columns) {
    std::map<std::string, Array> batch;
    for (auto const& [name, meta] : columns) {
        Array a(meta);
        Random random{7, hash_name(name), 0};
        for (std::int64_t i = 0; i < meta.elements(); ++i) {
            auto n = static_cast<std::uint64_t>(i);
            if (meta.dtype == i32) a.values<std::int32_t>()[n] = static_cast<int>(random.word(n) % 11) - 2;
            else a.values<float>()[n] = random.normal(n);
        }
        batch[name] = a;
    }
    return batch;
}

using Function = std::function<Row(Batch const&)>;

Values run(Columns const& columns, std::int64_t micro_batches, Function const& f) {
    auto state = std::make_shared<State>(cpu_backend(2));
    auto step = compile(Plan().micro_batches(micro_batches), state, columns, f);
    step(random_batch(columns));
    return step(random_batch(columns));
}

double distance(Array const& a, Array const& b) {
    double difference = 0, norm = 0;
    for (std::int64_t i = 0; i < a.meta().elements(); ++i) {
        difference += std::pow(a.at(i) - b.at(i), 2);
        norm += std::pow(a.at(i), 2);
    }
    return std::sqrt(difference / std::max(norm, 1e-30));
}

Columns const columns{{"x", {f32, {8, 3, 4}}}, {"ids", {i32, {8, 3}}}};

/// What a loop has to get right, each with a name.
std::vector<std::pair<std::string, Function>> functions() {
    return {
        {"a sum",
         [](Batch const& b) -> Row {
             return {{"y", sum(square(b["x"]))}};
         }},
        {"a block read after the loop",
         [](Batch const& b) -> Row {
             return {{"y", exp(b["x"])}};
         }},
        {"a total read inside a later loop",
         [](Batch const& b) -> Row {
             Tensor x = b["x"], centre = mean(x, {0});
             return {{"y", sum(square(x - centre))}, {"z", x - centre}};
         }},
        {"totals of totals",
         [](Batch const& b) -> Row {
             Tensor x = b["x"], d = x - mean(x);
             Tensor z = d / sqrt(mean(square(d)));
             return {{"y", sum(z * z * z)}};
         }},
        {"the batch dim moved inside",
         [](Batch const& b) -> Row {
             return {{"y", transpose(b["x"], {1, 0, 2}) * 2.0}};
         }},
        {"the batch dim merged",
         [](Batch const& b) -> Row {
             return {{"y", softmax(reshape(b["x"], Shape{24, 4}))}};
         }},
        {"the batch dim whole",
         [](Batch const& b) -> Row {
             return {{"y", softmax(transpose(b["x"], {1, 2, 0}))}};
         }},
        {"the norm of a value that is cut",
         [](Batch const& b) -> Row {
             Tensor x = b["x"];
             return {{"y", gradient_norm({x * 3.0, x})}, {"z", apply_one(MaxAbsolute{}, {x})}};
         }},
        {"a slice of the batch",
         [](Batch const& b) -> Row {
             return {{"y", sum(slice(b["x"], 0, 1, 6) * slice(b["x"], 0, 2, 6))}};
         }},
        {"positions counted in the whole",
         [](Batch const& b) -> Row {
             return {{"y", b["x"] * cast(iota({8, 3, 4}, 0), f32)}};
         }},
        {"dropout",
         [](Batch const& b) -> Row {
             return {{"y", nn::dropout(b["x"], 0.4)}};
         }},
        {"a loss with ignored targets",
         [](Batch const& b) -> Row {
             Tensor w = full({9, 4}, 0.25) * cast(iota({9, 4}, 1), f32);
             return {{"y", linear_cross_entropy(b["x"], w, b["ids"], 2)}};
         }},
        {"gradients of weights and of a table",
         [](Batch const& b) -> Row {
             Tensor w = cast(iota({5, 4}, 1), f32), table = full({9, 4}, 0.5);
             Tensor ids = cast(maximum(cast(b["ids"], f32), full({}, 0)), i32);
             Tensor y = sum(silu(linear(b["x"] + embedding(ids, table), w)));
             auto d = gradients(y, {w, table});
             return {{"y", y}, {"dw", d[0]}, {"dt", d[1]}};
         }},
    };
}

}  // namespace

TEST_CASE("micro-batches do not change what is computed") {
    for (auto const& [name, f] : functions())
        for (std::int64_t micro : {2, 4, 8}) {
            CAPTURE(name, micro);
            auto whole = run(columns, 1, f), cut = run(columns, micro, f);
            REQUIRE(whole.size() == cut.size());
            for (std::size_t i = 0; i < whole.size(); ++i) {
                CAPTURE(whole[i].first);
                REQUIRE(whole[i].second.meta() == cut[i].second.meta());
                CHECK(distance(whole[i].second, cut[i].second) < 1e-5);
            }
        }
}

TEST_CASE("a lost micro-batch is noticed") {
    auto f = functions()[0].second;
    auto whole = run(columns, 1, f)[0].second;
    auto batch = random_batch(columns);
    for (auto& x : batch["x"].values<float>().subspan(0, 12)) x = 0;
    auto state = std::make_shared<State>(cpu_backend(1));
    auto step = compile(Plan().micro_batches(8), state, columns, f);
    CHECK(distance(whole, step(batch)[0].second) > 1e-5);
}

TEST_CASE("a total that is read inside the loop makes an earlier loop with only what it needs") {
    Trace trace;
    Tensor tokens = batch_input("tokens", {i32, {8, 6}}), targets = batch_input("targets", {i32, {8, 6}});
    models::Config c;
    c.dim = 16, c.layers = 2, c.heads = 2, c.vocab = 32;
    models::Llama model(c);
    auto [loss, g] = value_and_gradients(model, [&] { return models::loss(model, tokens, targets); });
    std::vector<Output> outputs{{"loss", loss.value()}};
    for (auto const& [p, d] : g.entries) outputs.push_back({p->path, d.value()});
    auto s = cut_loops(Graph::of(outputs), 4);
    REQUIRE(s.count == 5);
    std::set<std::string> first;
    int second = 0;
    for (auto const& n : s.graph.nodes) {
        if (source_of(*n)) continue;
        if (s.section.at(n.get()) == 1) first.insert(std::string(n->op.name()));
        if (s.section.at(n.get()) == 3) ++second;
    }
    CHECK(first == std::set<std::string>{"binary", "reduce", "micro_take", "micro_sum"});
    CHECK(second > 60);
}

TEST_CASE("micro-batches that do not divide the batch are refused") {
    auto f = functions()[0].second;
    CHECK_THROWS_WITH(run(columns, 3, f), ContainsSubstring("3 micro-batches do not divide the batch"));
}

TEST_CASE("a variable of the batch's shape is stored whole") {
    auto carried = make_variable({f32, {8, 4}}, Init::zeros(), VariableKind::other, "carried");
    auto s = std::make_shared<State>(cpu_backend(1));
    s->add({carried});
    Columns const x{{"x", {f32, {8, 4}}}};
    auto step = compile(Plan().micro_batches(4), s, x, [&](Batch const& b) -> Row {
        Tensor next = read(*carried) + b["x"];
        assign(*carried, next);
        return {{"sum", sum(next)}};
    });
    auto batch = random_batch(x);
    step(batch), step(batch);
    for (int i : {0, 13, 31}) CHECK(s->read(*carried).at(i) == Approx(2 * batch.at("x").at(i)));
}
