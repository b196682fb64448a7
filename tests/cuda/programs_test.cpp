#include "catch.hpp"
#include "laws/training.hpp"
#include "machines.hpp"

#include <cstring>

using namespace tests;

namespace {

struct Curve {
    std::vector<double> losses, norms;
    std::uint64_t hash = 0;
};

Curve train(std::string const& family, DType compute, std::int64_t micro, std::shared_ptr<Backend> backend,
            int steps) {
    models::Config config{.dim = 32, .layers = 2, .heads = 4, .vocab = 61, .seq = 16};
    if (family == "llama") config.kv_heads = 2;
    auto plan = Plan().compute(compute).micro_batches(micro);
    auto run = training(family, config, plan, std::move(backend), 4, 16);
    Curve c;
    for (int i = 0; i < steps; ++i)
        for (auto const& [name, value] : run()) (name == "loss" ? c.losses : c.norms).push_back(value.item());
    c.hash = run.state->parameter_hash();
    return c;
}

}  // namespace

TEST_CASE("models train on a GPU's backend as on the CPU") {
    for (std::string family : {"gpt2", "llama"})
        for (auto compute : {f32, bf16})
            for (std::int64_t micro : {1, 2}) {
                CAPTURE(family, name_of(compute), micro);
                auto want = train(family, compute, micro, cpu_backend(1), 4);
                auto got = train(family, compute, micro, host_device(), 4);
                double bound = compute == f32 ? 1e-4 : 2e-2;
                for (std::size_t i = 0; i < want.losses.size(); ++i) {
                    CHECK(got.losses[i] == Approx(want.losses[i]).epsilon(bound));
                    CHECK(got.norms[i] == Approx(want.norms[i]).epsilon(10 * bound));
                }
                auto other = train(family, compute, micro, host_device(cuda::Order::backward), 4);
                CHECK(other.hash == got.hash);
                auto stepwise = train(family, compute, micro, host_device({}, {.sync = true}), 4);
                CHECK(stepwise.hash == got.hash);
            }
}
