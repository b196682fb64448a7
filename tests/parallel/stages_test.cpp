#include "plait/parallel/stages.hpp"

#include "catch.hpp"
#include "laws/pipelines.hpp"
#include "plait/graph/collective.hpp"
#include "plait/graph/micro.hpp"
#include "scratch.hpp"

#include <algorithm>
#include <limits>

using namespace plait;
using namespace tests;

namespace {

Schedule one_by_one(int ranks, int micro_batches) { return make_schedule("1f1b", ranks, 1, micro_batches); }

Graph recorded(Subject const& s) {
    return training_on(Mesh(), s, {.bits = Bits::fast}).step->dumps().recorded;
}

/// GPT-2 with dropout at sizes where the program of validation, which drops nothing, would be cut elsewhere.
models::Config uneven() {
    models::Config c;
    c.dim = 16, c.layers = 4, c.heads = c.kv_heads = 2, c.hidden = 64, c.vocab = 256, c.seq = 52;
    c.dropout = 0.1;
    return c;
}

/// Operations by the place of a forward node: before the blocks, in each of them, and after them.
std::vector<double> costs_of(Graph const& graph, std::int64_t layers) {
    std::vector<double> costs(static_cast<std::size_t>(layers) + 2, 0);
    std::size_t at = 0;
    for (auto const& n : graph.nodes) {
        if (source_of(*n) || n->origin.phase != Phase::forward) continue;
        std::string const path = n->origin.path;
        if (path.starts_with("blocks.")) at = static_cast<std::size_t>(std::stoi(path.substr(7))) + 1;
        else if (at) at = costs.size() - 1;
        Metas metas;
        for (auto const& v : n->inputs) metas.push_back(v.meta());
        costs[at] += n->op.cost(metas).flops;
    }
    return costs;
}

/// The costliest stage, and the sum of squares, when stage s begins with block begins[s].
std::pair<double, double> score(std::vector<double> const& costs, std::vector<int> const& begins) {
    std::pair<double, double> all{0, 0};
    auto const layers = static_cast<int>(costs.size()) - 2;
    for (std::size_t s = 0; s < begins.size(); ++s) {
        int const end = s + 1 < begins.size() ? begins[s + 1] : layers;
        double cost = (s == 0 ? costs.front() : 0) + (s + 1 == begins.size() ? costs.back() : 0);
        for (int b = begins[s]; b < end; ++b) cost += costs[static_cast<std::size_t>(b) + 1];
        all.first = std::max(all.first, cost), all.second += cost * cost;
    }
    return all;
}

/// The best of all cuts, by trying each.
std::pair<double, double> best_score(std::vector<double> const& costs, int stages) {
    auto const layers = static_cast<int>(costs.size()) - 2;
    std::pair best{std::numeric_limits<double>::infinity(), 0.0};
    std::vector<int> begins{0};
    auto go = [&](auto const& self) -> void {
        if (static_cast<int>(begins.size()) == stages)
            return void(best = std::min(best, score(costs, begins)));
        for (int b = begins.back() + 1; b < layers; ++b) {
            begins.push_back(b);
            self(self);
            begins.pop_back();
        }
    };
    go(go);
    return best;
}

std::vector<int> begins_of(StageModules const& found, std::int64_t layers) {
    std::vector<int> begins;
    for (int b = 0; b < layers; ++b)
        if (found.of(fmt::format("blocks.{}.mlp.down", b)) == static_cast<int>(begins.size()))
            begins.push_back(b);
    return begins;
}

std::string refusal(Graph const& graph, std::vector<std::string> const& globs, int stages) {
    return message_of<UsageError>([&] { find_stages(graph, globs, stages); });
}

/// A program before it is cut, and its stages.
struct Cut {
    Training t;
    Sections sections;
    StageModules modules;
    StageCut cut;
};
Cut cut_of(Subject const& s, Arrangement const& a) {
    Mesh mesh(a.sizes(), 0);
    auto plan = a.plan(mesh, s);
    auto t = training_on(mesh, s, a);
    auto const& dumps = t.step->dumps();
    auto const micro = plan.local_micro_batches();
    std::optional<Leaves> leaves;
    std::optional<std::int64_t> tensor_leaves;
    if (a.bits == Bits::layout)
        leaves = Leaves::of(plan.granularity(), micro * a.blocks()),
        tensor_leaves = plan.granularity().tensor;
    auto sections =
        cut_loops(localize(dumps.passed, dumps.layouts, mesh, tensor_leaves), micro, leaves, true);
    auto modules = find_stages(dumps.recorded, plan.stages(), plan.schedule().stages);
    auto cut = cut_stages(sections, modules);
    return {t, std::move(sections), std::move(modules), std::move(cut)};
}

/// What is wrong with where the nodes of the loop are.
std::string cut_fault(Cut const& c) {
    auto const last = c.modules.stages - 1;
    for (auto const& n : c.sections.graph.nodes) {
        auto it = c.cut.at.find(n.get());
        if (it == c.cut.at.end()) continue;
        auto const [stage, work] = it->second;
        auto const& path = n->origin.path;
        auto const who = fmt::format("{} in '{}' in stage {} {}", n->op.name(), path, stage, letter_of(work));
        int const own = c.modules.of(path);
        bool const back = n->origin.phase != Phase::forward || n->origin.recomputed;
        if (own >= 0 && own != stage) return who + ": its module is in another stage";
        if (path.starts_with("tokens") && stage != 0) return who + ": the embedding is in stage 0";
        if ((path.starts_with("norm") || path.starts_with("head")) && stage != last)
            return who + ": the head is in the last stage";
        if (back && work == Work::F && !n->op.as<Await>() && n->op.name() != "micro_sum")
            return who + ": backward, or made again for it";
        if (auto const* p = n->op.as<Product>(); p && own >= 0 && back && !n->origin.recomputed) {
            if (p->form == ProductForm::tn && work != Work::W) return who + ": a weight's gradient is W";
            if (p->form == ProductForm::nn && work != Work::B) return who + ": an input's gradient is B";
        }
        // Nothing reads what comes later: F before B before W, down the stages and up again.
        bool all_alike = !n->inputs.empty();
        for (auto const& v : n->inputs) {
            auto made = c.cut.at.find(v.node.get());
            if (made == c.cut.at.end()) {
                all_alike = all_alike && !source_of(*v.node);
                continue;
            }
            auto const& from = made->second;
            all_alike = all_alike && from.stage == stage && from.work == work;
            bool const good = work == Work::F        ? from.work == Work::F && from.stage <= stage
                              : from.work == Work::F ? from.stage <= stage
                              : work == Work::B      ? from.work == Work::B && from.stage >= stage
                                                     : from.work == Work::B || from.stage >= stage;
            if (!good) return fmt::format("{} reads {} of stage {}", who, letter_of(from.work), from.stage);
        }
        // Sums of gradients and of leaves go with what is added up.
        bool const sum =
            n->op.as<MicroSum>() || n->op.as<MicroTree>() || (n->op.as<Binary>() && back && own >= 0);
        auto made = sum ? c.cut.at.find(n->inputs[0].node.get()) : c.cut.at.end();
        if (sum && n->op.as<Binary>() == nullptr && made != c.cut.at.end() &&
            (made->second.stage != stage || made->second.work != work))
            return who + ": a total is with its addends";
    }
    return "";
}

}  // namespace

TEST_CASE("stages cost alike: no other cut's costliest one is cheaper") {
    for (int layers : {1, 2, 3, 5, 7})
        for (auto vocab : {32, 96, 1024}) {
            auto s = llama();
            s.config.layers = layers, s.config.vocab = vocab, s.config.tied = layers % 2 == 0;
            auto const graph = recorded(s);
            auto const costs = costs_of(graph, layers);
            for (int stages = 1; stages <= layers; ++stages) {
                CAPTURE(layers, vocab, stages);
                auto const found = find_stages(graph, {"blocks.*"}, stages);
                auto const begins = begins_of(found, layers);
                REQUIRE(static_cast<int>(begins.size()) == stages);
                auto const [most, squares] = score(costs, begins);
                auto const [least, fewest] = best_score(costs, stages);
                CHECK(most == Approx(least));
                CHECK(squares == Approx(fewest));
            }
        }
}

TEST_CASE("what comes before the modules and after them counts") {
    auto s = llama();
    s.config.layers = 8, s.config.vocab = 1024;
    auto const begins = begins_of(find_stages(recorded(s), {"blocks.*"}, 2), 8);
    // The head is as much as some blocks.
    CHECK(begins.at(1) > 4);
    s.config.vocab = 8, s.config.loss_chunk = 0;
    CHECK(begins_of(find_stages(recorded(s), {"blocks.*"}, 2), 8).at(1) == 4);
}

TEST_CASE("several globs give each stage its own modules") {
    auto s = llama();
    s.config.layers = 4;
    auto const graph = recorded(s);
    auto const found = find_stages(graph, {"blocks.{0,1,2}", "blocks.3"}, 2);
    CHECK(begins_of(found, 4) == std::vector{0, 3});
    CHECK(found.of("blocks.3.mlp.down") == 1);
    CHECK(found.of("blocks.30") == -1);
    CHECK(found.of("tokens") == -1);
    CHECK(found.text() == "stage 0: blocks.0, blocks.1, blocks.2\nstage 1: blocks.3\n");
    CHECK(find_stages(graph, {"tokens", "blocks.*"}, 2).of("tokens") == 0);
}

TEST_CASE("stages that cannot be are refused") {
    auto s = llama();
    s.config.layers = 3;
    auto const graph = recorded(s);
    CHECK_THAT(refusal(graph, {"blocks.*"}, 4),
               ContainsSubstring("blocks.* names 3 modules, fewer than the 4 stages"));
    CHECK_THAT(refusal(graph, {"layers.*"}, 2), ContainsSubstring("layers.* names no module"));
    CHECK_THAT(refusal(graph, {"blocks.0", "blocks.1"}, 3), ContainsSubstring("2 globs for 3 stages"));
    CHECK_THAT(refusal(graph, {"blocks.*", "blocks.7"}, 2),
               ContainsSubstring("blocks.7 names no module, so stage 1 is empty"));
    CHECK_THAT(refusal(graph, {"blocks.{0,1}", "blocks.{1,2}"}, 2),
               ContainsSubstring("blocks.1 is in blocks.{0,1} and in blocks.{1,2}"));
}

TEST_CASE("the loop is cut where its modules are: forward, input gradients, weight gradients") {
    int cuts = 0;
    for (auto const& c : pairwise(pipeline_table())) {
        if (cuts++ % 4) continue;
        auto one = pipeline_case(c);
        one.arrangement.bits = cuts % 8 == 1 ? Bits::layout : Bits::fast;
        INFO(text_of(one.subject, one.arrangement));
        auto const cut = cut_of(one.subject, one.arrangement);
        CHECK(cut_fault(cut) == "");
        int recomputed = 0, products = 0;
        for (auto const& [n, at] : cut.cut.at) {
            recomputed += n->origin.recomputed && at.work != Work::F;
            products += n->op.as<Product>() && at.work == Work::W;
        }
        CHECK((recomputed > 0) == one.arrangement.recompute);
        CHECK(products > 0);
    }
}

TEST_CASE("a node in a wrong piece is found") {
    auto s = untied_llama();
    s.config.layers = 4;
    auto cut = cut_of(s, {.micro = 2, .bits = Bits::fast, .pipeline = 2});
    REQUIRE(cut_fault(cut) == "");
    int moved = 0, found = 0;
    for (auto& [n, at] : cut.cut.at) {
        auto const right = at;
        at.stage = 1 - right.stage;
        found += cut_fault(cut) != "", ++moved;
        at = right;
        if (n->op.as<Product>()) {
            at.work = right.work == Work::W ? Work::B : right.work == Work::B ? Work::W : Work::B;
            bool const seen = cut_fault(cut) != "";
            CHECK(seen);
            at = right;
        }
    }
    CHECK(found == moved);
}

TEST_CASE("programs of one state are cut alike, whatever their modules weigh in each") {
    auto const c = uneven();
    Mesh const mesh({{"pipeline", 2}}, 1);
    auto const plan = Plan(mesh).stages("blocks.*").micro_batches(2);
    models::Gpt2 model(c);
    optim::AdamW adam;
    auto const all = state(model, adam, cpu_backend(1));
    auto const columns = token_columns(2, c.seq);
    auto loss = [&](Batch const& b) { return models::loss(model, b.tokens, b.targets); };
    auto const train = compile(plan, all, columns, [&](Batch const& b) -> Row {
        auto [value, gradients] = value_and_gradients(model, [&] { return loss(b); });
        adam.update(model, gradients);
        return {{"loss", value}};
    });
    std::map<std::string, Meta> blocks;
    for (auto const& v : all->variables()) blocks[v->path] = all->block_of(*v);
    auto const validate = compile(plan, all, columns, [&](Batch const& b) -> Row {
        nn::Inference inference;
        return {{"loss", loss(b)}};
    });
    CHECK(validate.dumps().modules.modules == train.dumps().modules.modules);
    for (auto const& v : all->variables()) CHECK(all->block_of(*v) == blocks[v->path]);
    CHECK(find_stages(validate.dumps().recorded, {"blocks.*"}, 2).modules != train.dumps().modules.modules);
}

TEST_CASE("programs of one state have one number of stages, and a cut that failed is none") {
    auto const s = pipeline_subjects(8)[1];
    Mesh const mesh({{"pipeline", 2}}, 0);
    models::Llama model(s.config);
    optim::AdamW adam;
    auto const all = state(model, adam, cpu_backend(1));
    auto compiled = [&](Plan const& plan) {
        return compile(plan, all, token_columns(4, 8), [&](Batch const& b) -> Row {
            return {{"loss", models::loss(model, b.tokens, b.targets)}};
        });
    };
    auto const plan = Plan(mesh).micro_batches(2);
    CHECK_THROWS_WITH(compiled(Plan(plan).stages({"blocks.{4,5,6,7}", "blocks.{0,1,2,3}"}, one_by_one)),
                      ContainsSubstring("stages must follow each other"));
    compiled(Plan(plan).stages("blocks.*", "interleaved", 2));
    CHECK_THROWS_WITH(
        compiled(Plan(plan).stages("blocks.*", "gpipe")),
        ContainsSubstring("a schedule of 2 stages, where the first program of this state has 4"));
}

TEST_CASE("a variable that comes after a program may be divided") {
    Mesh const mesh({{"data", 2}}, 0);
    models::Llama model(pipeline_subjects()[0].config);
    auto const late = make_variable({f32, {8, 8}}, Init::normal(0.02));
    late->path = "late";
    optim::AdamW adam;
    auto const all = state(model, adam, cpu_backend(1));
    auto const plan = Plan(mesh).zero(3);
    compile(plan, all, token_columns(4, 8), [&](Batch const& b) -> Row {
        return {{"loss", models::loss(model, b.tokens, b.targets)}};
    });
    auto const& table = *model.tokens.weight.variable;
    auto const before = all->offset_of(table);
    all->add({late});
    compile(plan, all, {{"x", {f32, {4, 8}}}}, [&](Batch const& b) -> Row {
        return {{"y", sum(b["x"]) + sum(read(*late))}};
    });
    CHECK(all->block_of(*late).shape == Shape{4, 8});
    CHECK(all->offset_of(table) == before);
}

TEST_CASE("what a program was compiled on stays where it is") {
    models::Llama model(pipeline_subjects()[0].config);
    optim::AdamW adam;
    auto const all = state(model, adam, cpu_backend(1));
    auto compiled = [&](Plan const& plan) {
        return compile(plan, all, token_columns(4, 8), [&](Batch const& b) -> Row {
            return {{"loss", models::loss(model, b.tokens, b.targets)}};
        });
    };
    Mesh const mesh({{"data", 2}}, 0);
    compiled(Plan(mesh).zero(3));
    CHECK_NOTHROW(compiled(Plan(mesh).zero(3)));
    CHECK_THROWS_WITH(compiled(Plan(mesh)), ContainsSubstring("another program of this state lays it out"));
}

TEST_CASE("a module that no glob names has its backward where its forward is") {
    auto s = pipeline_subjects()[1];
    REQUIRE(s.config.layers == 4);
    for (auto const& globs :
         {std::vector<std::string>{"blocks.{0,1}", "blocks.3"}, {"blocks.0.mlp", "blocks.{2,3}.mlp"}}) {
        for (int zero : {0, 3}) {
            Mesh const mesh({{"data", 2}, {"pipeline", 2}}, 0);
            auto const plan = Plan(mesh).stages(globs, one_by_one).micro_batches(4).zero(zero);
            auto const t = training(s.family, s.config, plan, cpu_backend(1), s.batch, s.seq);
            auto const& dumps = t.step->dumps();
            // Forward and backward read a variable on one rank.
            for (auto const& [v, ranks] : dumps.holders) {
                if (v->meta.shape.rank() == 0) continue;
                INFO(v->path);
                CHECK(ranks.size() == 1);
            }
            CHECK(dumps.modules.of("blocks.1.attention") == (globs[0] == "blocks.{0,1}" ? 0 : -1));
        }
    }
}

TEST_CASE("what lies between modules weighs on the stage before") {
    auto s = pipeline_subjects(8)[1];
    // Next to nothing lies after the blocks.
    s.config.vocab = 8;
    auto const cut = find_stages(recorded(s), {"blocks.*.mlp"}, 4);
    REQUIRE(cut.modules.size() == 8);
    for (int stage = 0; stage < 4; ++stage) {
        auto of_stage = [&](auto const& m) { return m.second == stage; };
        auto const count = std::count_if(cut.modules.begin(), cut.modules.end(), of_stage);
        CHECK((count >= 1 && count <= 3));
    }
    CHECK(cut.modules[6].second == 3);
}
