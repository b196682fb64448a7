#include "catch.hpp"
#include "plait/plait.hpp"

using namespace plait;

namespace {
struct Tied {
    nn::Parameter a, b;
    using fields = Fields<&Tied::a, &Tied::b>;
};
}  // namespace

TEST_CASE("a graph holds what its outputs need, in the order of recording") {
    Tensor a = full({2, 3}, 1), b = a * 2.0, unused = exp(b), c = b + a;
    auto g = Graph::of({{"c", c.value()}});
    REQUIRE(g.nodes.size() == 3);
    CHECK(g.nodes[2] == c.value().node);
    CHECK(g.text().find("binary(fn=add)") != std::string::npos);
    CHECK(g.text().find("exp") == std::string::npos);
    CHECK(g.dot().find("digraph") == 0);
    CHECK(unused);
}

TEST_CASE("nodes know the module and phase they come from") {
    Trace trace;
    Scope outer("blocks.3"), inner("mlp");
    Tensor x = full({2}, 1) * 3.0;
    CHECK(x.value().node->origin.path == "blocks.3.mlp");
    auto site = next_random_site();
    CHECK(site != next_random_site());
    Trace fresh;
    Scope again("blocks.3.mlp", true);
    CHECK(next_random_site() == site);
}

TEST_CASE("a shape error names the op, the shapes, the dims that clash, and the module") {
    Scope scope("blocks.0.mlp");
    try {
        (void)(full({4, 8}, 1) + full({4, 7}, 1));
        FAIL("no error");
    } catch (ShapeError const& e) {
        std::string text = e.what();
        for (auto part : {"binary", "[4, 8]", "[4, 7]", "8", "7", "in blocks.0.mlp"})
            CHECK_THAT(text, ContainsSubstring(part));
        CHECK(text.find('\n') == std::string::npos);
    }
    CHECK_THROWS_WITH(linear(full({2, 8}, 1), full({4, 9}, 1)),
                      ContainsSubstring("8") && ContainsSubstring("9"));
    CHECK_THROWS_WITH(apply(Cast{bf16}, {Tensor()}), ContainsSubstring("empty tensor"));
}

TEST_CASE("a long chain of nodes is freed without deep recursion") {
    Tensor x = full({}, 0);
    for (int i = 0; i < 300000; ++i) x = x + 1.0;
    x = Tensor();
    SUCCEED();
}

TEST_CASE("small things run when their value is asked for") {
    Tensor x{Array(Shape{3}, std::vector<float>{1, 2, 3})};
    CHECK(evaluate(sum(x * x)).item() == 14);
    auto two = evaluate(Tensors{x + 1.0, mean(x)});
    CHECK(two[0].at(2) == 4);
    CHECK(two[1].item() == 2);
    nn::Linear layer(3, 2);
    auto first = evaluate(Tensor(layer.weight)), again = evaluate(Tensor(layer.weight));
    CHECK(first.at(0) == again.at(0));
    CHECK_THROWS_WITH(evaluate(batch_input("tokens", {i32, {1}})), ContainsSubstring("batch 'tokens'"));
}

TEST_CASE("modules list their variables by path, tied ones once") {
    models::Config c;
    c.dim = 16, c.heads = 2, c.layers = 2, c.vocab = 20, c.tied = false;
    models::Llama m(c);
    std::vector<std::string> paths;
    for (auto const& v : variables_of(m)) paths.push_back(v->path);
    CHECK(paths.size() == 1 + 2 * 9 + 2);
    CHECK(paths[1] == "blocks.0.attention_norm.weight");
    CHECK(paths.back() == "head.weight");
    CHECK(m.blocks.blocks[1].mlp.gate.path == "blocks.1.mlp.gate");

    nn::Parameter p(Shape{2});
    Tied tied{p, p};
    CHECK(variables_of(tied).size() == 1);
}

TEST_CASE("walking a part of a model leaves the model's paths as they are") {
    models::Config c;
    c.dim = 16, c.heads = 2, c.layers = 1, c.vocab = 20, c.tied = false;
    models::Llama m(c);
    auto s = state(m);
    CHECK(variables_of(*m.head).size() == 1);
    CHECK(variables_of(m.blocks.blocks[0]).size() == 9);
    CHECK(m.head->weight.variable->path == "head.weight");
    CHECK(m.blocks.blocks[0].mlp.gate.path == "blocks.0.mlp.gate");
}
