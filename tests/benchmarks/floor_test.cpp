#include "../../benchmarks/floor.hpp"

#include "../../benchmarks/training.hpp"
#include "catch.hpp"

#include <set>

using namespace plait;
using namespace plait::benchmark;

namespace {

// More classes than tokens, and chunks of the loss that do not divide them.
constexpr Size small{"small", "", 2, 32, 4, 2, 64, 256, true, 4, 32};
constexpr std::int64_t tokens = 4 * 32;

struct Compiled {
    Program program;
    std::int64_t parameters = 0;
};

template <class Model>
Compiled compiled(DType compute, int micro_batches, bool recomputes) {
    auto config = small.config();
    config.loss_chunk = 24;
    auto plan = Plan().compute(compute).micro_batches(micro_batches);
    if (recomputes) plan.recompute("blocks.*");
    Training<Model> training(config, small.rows, plan, cpu_backend(1));
    Compiled c{training.step.program()};
    for (auto const& v : variables_of(training.model)) c.parameters += v->meta.elements();
    return c;
}

/// Operations a step of the instructions that `wanted` says yes to.
template <class Wanted>
double flops_of(Program const& program, Wanted&& wanted) {
    double sum = 0;
    for (auto const& v : program.visits) {
        auto const& piece = program.pieces[static_cast<std::size_t>(v.piece)];
        for (int n = piece.first; n < piece.last; ++n) {
            auto const& i = program.instructions[static_cast<std::size_t>(n)];
            Metas in;
            for (auto const& o : i.in) in.push_back(o.meta);
            if (i.row && wanted(i)) sum += i.op.cost(in).flops;
        }
    }
    return sum;
}
bool is_product(Instruction const& i) {
    static std::set<std::string_view> const names{"product",
                                                  "product_gelu_gradient",
                                                  "linear",
                                                  "matmul",
                                                  "attention",
                                                  "attention_gradient",
                                                  "linear_cross_entropy",
                                                  "linear_cross_entropy_gradient",
                                                  "linear_cross_entropy_step"};
    return names.contains(i.op.name());
}
bool is_no_product(Instruction const& i) { return !is_product(i); }

FloorKind const& kind(Floor const& floor, std::string const& name) {
    for (auto const& k : floor.kinds)
        if (k.name == name) return k;
    FAIL("no " << name);
    throw 0;
}

template <class Model>
void check_products() {
    for (auto compute : {f32, bf16})
        for (int micro_batches : {1, 2})
            for (bool recomputes : {false, true}) {
                CAPTURE(name_of(compute), micro_batches, recomputes);
                auto const program = compiled<Model>(compute, micro_batches, recomputes).program;
                auto const expected = flops_of(program, is_product);
                CHECK(floor_of(program).flops() == expected);
                CHECK(flops_of(program, is_no_product) < 0.1 * expected);
                // An instruction that nobody counts shows.
                auto without = program;
                auto const at =
                    std::find_if(without.instructions.begin(), without.instructions.end(), is_product);
                REQUIRE(at != without.instructions.end());
                at->row = nullptr;
                CHECK(floor_of(without).flops() < expected);
            }
}

}  // namespace

TEST_CASE("the floor has every product of a step, and no more") {
    check_products<models::Llama>();
    check_products<models::Gpt2>();
}

TEST_CASE("the floor has the calls of a step and the bytes that no kernel can spare") {
    auto const [program, parameters] = compiled<models::Llama>(f32, 2, false);
    auto const floor = floor_of(program);
    double calls = 0;
    for (auto const& v : program.visits) {
        auto const& piece = program.pieces[static_cast<std::size_t>(v.piece)];
        calls += piece.last - piece.first;
    }
    for (auto const& k : floor.kinds) calls -= k.calls;
    CHECK(calls == 0);
    // Four tensors read and three written; the scalars are a few bytes a call.
    auto const& adamw = kind(floor, "adamw");
    CHECK(adamw.bytes >= 28.0 * static_cast<double>(parameters));
    CHECK(adamw.bytes < 28.0 * static_cast<double>(parameters) + 64 * adamw.calls);
    // The rows of the table that the tokens name, twice, and the tokens.
    CHECK(kind(floor, "embedding").bytes == 4.0 * tokens * (2 * small.dim + 1));
    // Only what the products of the loss do not read or write: targets, dnll, nll and lse.
    CHECK(kind(floor, "linear_cross_entropy_step").bytes == 4.0 * 4 * tokens);
}

TEST_CASE("what a floor adds to, later micro-batches add to") {
    auto const floor = floor_of(compiled<models::Llama>(f32, 2, false).program);
    double first = 0, again = 0;
    for (auto const& p : floor.products)
        if (p.op.name() == "product") (p.accumulate ? again : first) += p.calls;
    CHECK(again > 0);
    CHECK(first > again);
}
