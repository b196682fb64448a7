#include "plait/graph/rule.hpp"

#include "catch.hpp"
#include "ops/metas.hpp"

using namespace plait;
using namespace tests;

TEST_CASE("a rule is read from words") {
    struct Row {
        char const *spec, *in, *rule;
    };
    Row const rows[] = {
        {"a b -> b a", "f32[2, 3]", "a:2 b:3 -> b:3 a:2"},
        {"... -> ...", "f32[]", " -> "},
        {"... -> ...", "f32[2, 3]", ".0:2 .1:3 -> .0:2 .1:3"},
        {"!... n -> n", "f32[2, 3, 4]", "!.0:2 !.1:3 n:4 -> n:4"},
        {"... m k, ... k n -> ... m n", "f32[7, 2, 3], f32[7, 3, 4]",
         ".0:7 m:2 k:3, .0:7 k:3 n:4 -> .0:7 m:2 n:4"},
        {"... m !k, ~n !k -> ... m n", "f32[2, 3], f32[4, 3]", "m:2 !k:3, ~n:4 !k:3 -> m:2 n:4"},
        {"a k, !k -> a", "f32[2, 3], f32[3]", "a:2 !k:3, !k:3 -> a:2"},
        {"(h g) d, h -> h (g d)", "f32[6, 5], f32[2]", "(h:2 g:3) d:5, h:2 -> h:2 (g:3 d:5)"},
        {"h, (h !g) -> g", "f32[2], f32[6]", "h:2, (h:2 !g:3) -> !g:3"},
        {"(a b c), a, (b a) -> c", "f32[30], f32[2], f32[6]", "(a:2 b:3 c:5), a:2, (b:3 a:2) -> c:5"},
        {"a 1 b -> a b", "f32[2, 1, 3]", "a:2 1 b:3 -> a:2 b:3"},
        {"a, , -> a", "f32[2], f32[], i32[]", "a:2, ,  -> a:2"},
        {"a -> , a", "f32[2]", "a:2 -> , a:2"},
        {"..., ... d -> ... d", "f32[], f32[3]", ", d:3 -> d:3"},
    };
    for (auto const& row : rows) {
        CAPTURE(row.spec, row.in);
        CHECK(rule_text(parse_rule("op", row.spec, metas(row.in))) == row.rule);
    }
}

TEST_CASE("a rule knows its outputs' shapes and which operand holds a factor") {
    auto r = parse_rule("op", "(h g) d, h -> h (g d), d", metas("f32[6, 5], f32[2]"));
    CHECK(r.output_shape(0) == Shape{2, 15});
    CHECK(r.output_shape(1) == Shape{5});
    CHECK(Rule::holds(r.inputs[0], 0));
    CHECK(Rule::holds(r.outputs[0], 0));
    CHECK(!Rule::holds(r.outputs[1], 0));
    CHECK(!r.exact);
    CHECK(r.like == std::vector<bool>{false, false});
}

TEST_CASE("operands that do not fit a rule are refused with both sizes") {
    struct Row {
        char const *spec, *in;
        std::vector<char const*> says;
    };
    Row const rows[] = {
        {"m k, k n -> m n",
         "f32[2, 3], f32[4, 5]",
         {"op(f32[2, 3], f32[4, 5])", "dim 0 of input 1 has size 4 but dim 1 of input 0 has size 3",
          "m k, k n -> m n"}},
        {"a -> a", "f32[2, 3]", {"input 0 has 2 dims, not 1"}},
        {"... a b -> a", "f32[2]", {"input 0 has 1 dims, not at least 2"}},
        {"..., ... -> ...", "f32[2, 3], f32[3]", {"input 1 has 1 dims, not 2"}},
        {"..., ... a -> ...", "f32[2, 3], f32[3]", {"input 1 has 1 dims, not 3"}},
        {"... -> ...", "f32[2], f32[2]", {"has 2 inputs, not 1"}},
        {" -> ", "f32[2]", {"has 1 inputs, not 0"}},
        {"(h g), h -> g", "f32[5], f32[2]", {"dim 0 of input 0 has size 5, which 2 does not divide"}},
        {"(h g), h, g -> g", "f32[8], f32[2], f32[3]", {"size 8, not 6"}},
        {"a, (a b), b -> a", "f32[2], f32[6], f32[4]", {"size 4", "size 3"}},
        {"a 1 -> a", "f32[2, 3]", {"dim 1 of input 0 has size 3, not 1"}},
    };
    for (auto const& row : rows) {
        CAPTURE(row.spec, row.in);
        std::string text = "no error";
        try {
            parse_rule("op", row.spec, metas(row.in));
        } catch (ShapeError const& e) {
            text = e.what();
        }
        for (auto const* part : row.says) CHECK_THAT(text, ContainsSubstring(part));
    }
}
