#include "plait/parallel/plan.hpp"
#include "catch.hpp"
#include "plait/parallel/lines.hpp"
#include "plait/plait.hpp"

using namespace plait;

namespace {

struct Mlp {
    nn::Linear up{8, 12}, down{12, 8};
    using fields = Fields<&Mlp::up, &Mlp::down>;

    Tensor operator()(Tensor const& x) const { return down(silu(up(x))); }
};

Mesh mesh(int data, int tensor = 1) { return Mesh({{"data", data}, {"tensor", tensor}}, 0); }

/// Compiles a step of the MLP; nothing runs.
Step compiled(Plan const& plan, std::int64_t batch = 8) {
    static Mlp model;
    static optim::AdamW adam;
    auto s = state(model, adam, cpu_backend(1));
    return compile(plan, s, {{"x", {f32, {batch, 4, 8}}}}, [&](Batch const& b) -> Row {
        auto [loss, g] = value_and_gradients(model, [&] { return mean(square(model(b["x"]))); });
        adam.update(model, g);
        return {{"loss", loss}};
    });
}

std::string refusal(Plan const& plan, std::int64_t batch = 8) {
    try {
        compiled(plan, batch);
    } catch (UsageError const& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST_CASE("a line is what its text says") {
    for (std::string text :
         {"shard **.weight tensor 0", "store ** data * of optimizer", "store a.out tensor 1 of activation"})
        CHECK(to_string(parse_plan_line(text)) == text);
    CHECK_THROWS_WITH(parse_plan_line("cut a data 0"), ContainsSubstring("must begin with shard or store"));
    CHECK_THROWS_WITH(parse_plan_line(""), ContainsSubstring("must begin with shard or store"));
    CHECK_THROWS_WITH(parse_plan_line("shard a data"),
                      ContainsSubstring("write it like shard GLOB AXIS DIM"));
    CHECK_THROWS_WITH(parse_plan_line("store a data 0"), ContainsSubstring("store GLOB AXIS DIM of KIND"));
    CHECK_THROWS_WITH(parse_plan_line("store a data 0 as gradient"), ContainsSubstring("of KIND"));
    CHECK_THROWS_WITH(parse_plan_line("shard a data x"), ContainsSubstring("the dim x is no number from 0"));
    CHECK_THROWS_WITH(parse_plan_line("shard a data -1"), ContainsSubstring("the dim -1 is no number"));
    CHECK_THROWS_WITH(
        parse_plan_line("store a data 0 of weights"),
        ContainsSubstring("there is no weights: use parameter, gradient, optimizer or activation"));
}

TEST_CASE("a plan's numbers are checked") {
    CHECK_THROWS_WITH(Plan().zero(4), ContainsSubstring("zero(4): use 0, 1, 2 or 3"));
    CHECK_THROWS_WITH(Plan().micro_batches(0), ContainsSubstring("0 micro-batches: use 1 or more"));
    CHECK_THROWS_WITH(Plan().compute(i32), ContainsSubstring("cannot compute in i32"));
    CHECK_THROWS_WITH(Plan().bits(Bits::layout, {6, 2, 2}),
                      ContainsSubstring("batch = 6: use a power of two"));
    CHECK_THROWS_WITH(Plan().bits(Bits::layout, {2, 8, 2}), ContainsSubstring("data = 8 is above batch = 2"));
    CHECK_THROWS_WITH(Plan().shard("a", "time", 0), ContainsSubstring("there is no axis time"));
    CHECK(Plan().zero(3).zero(3).lines().size() == 3);
    CHECK(Plan(mesh(4)).micro_batches(8).local_micro_batches() == 2);
    CHECK(Plan(mesh(4)).local_micro_batches() == 1);
}

TEST_CASE("a mesh beyond the granularity is refused with the value that covers it") {
    auto refused = [](Mesh m, std::int64_t micro, Granularity g) {
        try {
            Plan(m).micro_batches(micro).bits(Bits::layout, g).local_micro_batches();
        } catch (UsageError const& e) {
            return std::string(e.what());
        }
        return std::string();
    };
    CHECK(refused(mesh(4), 8, {8, 4, 2}) == "");
    CHECK_THAT(refused(mesh(8), 8, {8, 4, 2}),
               ContainsSubstring("plan: bits_granularity.data = 4: replica x data = 8 is beyond it") &&
                   ContainsSubstring("8 would cover it"));
    CHECK_THAT(refused(mesh(4), 16, {8, 4, 2}),
               ContainsSubstring("bits_granularity.batch = 8: ") && ContainsSubstring("16 would cover it"));
    CHECK_THAT(refused(mesh(1, 4), 1, {8, 8, 2}),
               ContainsSubstring("bits_granularity.tensor = 2: tensor = 4 is beyond it"));
    CHECK_THAT(refused(mesh(3), 3, {8, 8, 2}),
               ContainsSubstring(
                   "plan: mesh = data=3: bits = \"layout\" wants axes that are powers of two, not data = 3"));
    CHECK_THAT(refused(mesh(2), 6, {8, 8, 2}),
               ContainsSubstring("plan: micro_batches = 6: must be a power of two"));
    CHECK_THAT(refused(mesh(4), 6, {8, 8, 2}),
               ContainsSubstring("plan: micro_batches = 6: must be a multiple of replica x data = 4"));
}

TEST_CASE("lines that cannot hold are refused by name") {
    CHECK(
        refusal(Plan(mesh(2, 2)).zero(3).shard("up.weight", "tensor", 0).shard("down.weight", "tensor", 1)) ==
        "");
    CHECK_THAT(refusal(Plan(mesh(1, 2)).shard("upp.weight", "tensor", 0)),
               ContainsSubstring("\"shard upp.weight tensor 0\" names nothing in the program"));
    CHECK_THAT(refusal(Plan(mesh(1, 2)).shard("up.weight", "tensor", 2)),
               ContainsSubstring("up.weight is f32[12, 8], so there is no dim 2"));
    CHECK_THAT(refusal(Plan(mesh(1, 5)).shard("up.weight", "tensor", 0)),
               ContainsSubstring("tensor = 5 does not divide dim 0 of up.weight, f32[12, 8]"));
    CHECK_THAT(refusal(Plan(mesh(4, 2))
                           .store("up.weight", "data", 0, Stored::parameter)
                           .shard("up.weight", "tensor", 0)),
               ContainsSubstring("data = 4 does not divide dim 0 of up.weight"));
    CHECK_THAT(refusal(Plan(mesh(1, 2)).shard("up.weight", "tensor", 0).shard("up.*", "tensor", 1)),
               ContainsSubstring(
                   "\"shard up.* tensor 1\" contradicts \"shard up.weight tensor 0\" about up.weight"));
    CHECK_THAT(refusal(Plan(mesh(1, 2))
                           .shard("up.weight", "tensor", 0)
                           .store("up.weight", "tensor", 0, Stored::parameter)),
               ContainsSubstring("contradicts"));
}

TEST_CASE("two shard lines that would cut two factors of one op name the op, both dims and lines") {
    auto text = refusal(Plan(mesh(1, 2)).shard("up.weight", "tensor", 0).shard("down.weight", "tensor", 0));
    CHECK_THAT(text, ContainsSubstring("in down") && ContainsSubstring("one mesh axis cannot cut both") &&
                         ContainsSubstring("\"shard down.weight tensor 0\"") &&
                         ContainsSubstring("dim 0 of input 1"));
}

TEST_CASE("a batch that ranks, micro-batches or leaves do not divide is refused") {
    CHECK_THAT(refusal(Plan(mesh(3)), 8),
               ContainsSubstring("replica x data = 3 does not divide the batch of 8"));
    CHECK_THAT(refusal(Plan(mesh(2)).micro_batches(6), 8),
               ContainsSubstring("3 micro-batches do not divide the batch"));
    CHECK_THAT(refusal(Plan(mesh(2)).bits(Bits::layout, {16, 8, 2}), 8),
               ContainsSubstring("cuts the batch into 16 leaves, which do not divide x (f32[8, 4, 8])"));
}

TEST_CASE("the optimizer's state is laid out as its parameter's lines say") {
    auto step = compiled(Plan(mesh(4, 2)).zero(1).shard("up.weight", "tensor", 0));
    for (auto const& v : step.state().variables()) {
        auto const& block = step.state().block_of(*v).shape;
        CAPTURE(v->path);
        if (v->path == "up.weight") CHECK(block == Shape{6, 8});
        if (v->path == "optimizer.m.up.weight") CHECK(block == Shape{6, 2});  // 12 / 2 / 4 is no whole number
        if (v->path == "optimizer.m.down.weight") CHECK(block == Shape{2, 12});
    }
}
