#include "plait/train/speed.hpp"

#include "catch.hpp"
#include "plait/plait.hpp"

#include <chrono>

using namespace plait;

namespace {

struct Block {
    nn::Linear up, down;
    explicit Block() : up(32, 64, false), down(64, 32, false) {}
    Tensor operator()(Tensor const& x) const { return down(silu(up(x))); }
    using fields = Fields<&Block::up, &Block::down>;
};

double flops_of(int micro_batches, bool recomputes) {
    Block block;
    optim::AdamW adam;
    Plan plan;
    plan.micro_batches(micro_batches);
    if (recomputes) plan.recompute("up");
    auto step = compile(plan, state(block, adam), {{"x", {f32, {128, 32}}}}, [&](Batch const& b) -> Row {
        auto [loss, gradients] = value_and_gradients(block, [&] { return sum(block(b["x"])); });
        adam.update(block, gradients);
        return {{"loss", loss}};
    });
    return program_flops(step.program());
}

}  // namespace

TEST_CASE("a program's operations are those of its products, and little more") {
    // Forward: two products; backward: the weights' two, and one for the hidden values' gradient.
    double const products = 5 * 2.0 * 128 * 32 * 64;
    auto const one = flops_of(1, false);
    CHECK(one > products);
    CHECK(one < 1.1 * products);
    // As many in four pieces, but for sums; and none more where forward is computed again.
    CHECK(flops_of(4, false) == Approx(one).epsilon(0.05));
    CHECK(flops_of(1, true) == Approx(one).epsilon(0.01));
}

TEST_CASE("the rate of a product is a number of this machine, for both dtypes") {
    for (auto dtype : {f32, bf16}) {
        auto const start = std::chrono::steady_clock::now();
        auto const rate = matmul_rate(*cpu_backend(1), dtype, 0.02);
        CHECK(rate > 1e7);
        CHECK(rate < 1e14);
        // It took as long at least as two products at that rate.
        std::chrono::duration<double> const took = std::chrono::steady_clock::now() - start;
        CHECK(took.count() * rate >= 2 * 2.0 * 768 * 768 * 768);
    }
}
