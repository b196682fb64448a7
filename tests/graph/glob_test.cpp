#include "plait/graph/glob.hpp"

#include "catch.hpp"

using plait::glob_matches;

TEST_CASE("a star stays within a name, two stars cross names") {
    struct Row {
        char const *glob, *path;
        bool matches;
    };
    Row const rows[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"a", "a", true},
        {"a", "ab", false},
        {"ab", "a", false},
        {"a.b", "a.b", true},
        {"a.b", "a", false},
        {"a", "a.b", false},
        {"a.b", "axb", false},
        {"*", "", false},
        {"*", "abc", true},
        {"*", "a.b", false},
        {"*.*", "a.b", true},
        {"*.*", "a", false},
        {"*.*", "a.b.c", false},
        {"a*", "a", true},
        {"a*", "abc", true},
        {"a*", "ab.c", false},
        {"*c", "abc", true},
        {"*c", "ab.c", false},
        {"a*c", "abbc", true},
        {"a*c", "a.c", false},
        {"*a*", "banana", true},
        {"*x*", "banana", false},
        {"a*b*c", "axbybzc", true},
        {"blocks.*", "blocks.3", true},
        {"blocks.*", "blocks", false},
        {"blocks.*", "blocks.3.attention", false},
        {"blocks.*.out", "blocks.11.out", true},
        {"blocks.*.out", "blocks.11.mlp.out", false},
        {"blocks.*.out", "blocks.out", false},
        {"blocks.*.out", "my.blocks.1.out", false},
        {"blocks.1*.out", "blocks.12.out", true},
        {"blocks.1*.out", "blocks.2.out", false},
        {"**", "", true},
        {"**", "a", true},
        {"**", "a.b.c", true},
        {"**.weight", "weight", true},
        {"**.weight", "a.weight", true},
        {"**.weight", "a.b.c.weight", true},
        {"**.weight", "a.overweight", false},
        {"**.weight", "overweight", false},
        {"**.weight", "a.weight.b", false},
        {"**.weight", "a.weights", false},
        {"**.norm*.weight", "blocks.0.norm1.weight", true},
        {"**.norm*.weight", "norm.weight", true},
        {"**.norm*.weight", "blocks.0.mlp.weight", false},
        {"a.**", "a", true},
        {"a.**", "a.b", true},
        {"a.**", "a.b.c", true},
        {"a.**", "ab", false},
        {"a.**", "b.a", false},
        {"a.**", "ab.c", false},
        {"a.**.z", "a.z", true},
        {"a.**.z", "a.b.z", true},
        {"a.**.z", "a.b.c.z", true},
        {"a.**.z", "az", false},
        {"a.**.z", "a.bz", false},
        {"a.**.z", "a.z.b", false},
        {"**.a.**", "a", true},
        {"**.a.**", "x.a", true},
        {"**.a.**", "x.a.y.z", true},
        {"**.a.**", "x.ab.y", false},
        {"**.**", "a", true},
        {"**.**", "", true},
        {"**.a.**.b", "x.a.y.a.b", true},
        {"**.a.*.b", "x.a.a.y.b", true},
        {"blocks.**.*.weight", "blocks.0.mlp.up.weight", true},
        {"blocks.**.*.weight", "blocks.weight", false},
        {"*.**", "a", true},
        {"*.**", "a.b.c", true},
        {"**.{q,k}.weight", "blocks.0.attention.q.weight", true},
        {"**.{q,k}.weight", "blocks.0.attention.k.weight", true},
        {"**.{q,k}.weight", "blocks.0.attention.v.weight", false},
        {"**.{q,k}.weight", "q.weight", true},
        {"**.{q,k}.weight", "qk.weight", false},
        {"{a,b}.{c,d}", "b.c", true},
        {"{a,b}.{c,d}", "b.a", false},
        {"x{,y}", "x", true},
        {"x{,y}", "xy", true},
        {"x{,y}", "xyy", false},
        {"{a.b,c}", "a.b", true},
        {"{**,b}.weight", "x.y.weight", true},
        {"{a*,b}", "abc", true},
        {"{only}", "only", true},
        {"{}", "", true},
        {"{a,{b,c}}.d", "c.d", true},
        {"{a,{b,c}}.d", "d.d", false},
        {"{a,x{b,c}}", "xc", true},
        {"{a,x{b,c}}", "c", false},
    };
    for (auto const& r : rows) {
        CAPTURE(r.glob, r.path);
        CHECK(glob_matches(r.glob, r.path) == r.matches);
    }
}

TEST_CASE("braces without their other half match nothing") {
    CHECK(!glob_matches("{a,b", "a"));
    CHECK(!glob_matches("a}", "a"));
    CHECK(!glob_matches("a}{b", "a"));
}

TEST_CASE("two stars are whole names, so elsewhere they are two single ones") {
    CHECK(glob_matches("a**", "abc"));
    CHECK(!glob_matches("a**", "ab.c"));
    CHECK(glob_matches("**a", "bca"));
    CHECK(!glob_matches("**a", "b.ca"));
}

TEST_CASE("many stars do not take forever") {
    std::string path = "a", glob = "**";
    for (int i = 0; i < 40; ++i) path += ".a";
    for (int i = 0; i < 8; ++i) glob += ".a.**";
    CHECK(!glob_matches(glob + ".z", path));
    CHECK(!glob_matches("*a*a*a*a*a*a*a*a*z", std::string(60, 'a')));
}
