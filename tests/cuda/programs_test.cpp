#include "catch.hpp"
#include "laws/training.hpp"
#include "machines.hpp"

#include <cstring>
#include <numeric>

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

void check_close(Curve const& got, Curve const& want, double bound) {
    for (std::size_t i = 0; i < want.losses.size(); ++i) {
        CHECK(got.losses[i] == Approx(want.losses[i]).epsilon(bound));
        CHECK(got.norms[i] == Approx(want.norms[i]).epsilon(10 * bound));
    }
}

double bound_of(DType compute) { return compute == f32 ? 1e-4 : 2e-2; }

}  // namespace

TEST_CASE("models train on a GPU's backend as on the CPU, in both orders of blocks and streams") {
    struct Row {
        std::string family;
        DType compute;
        std::int64_t micro;
    };
    for (auto const& [family, compute, micro] :
         {Row{"gpt2", f32, 2}, Row{"gpt2", bf16, 1}, Row{"llama", f32, 1}, Row{"llama", bf16, 2}}) {
        CAPTURE(family, name_of(compute), micro);
        auto got = train(family, compute, micro, host_device(), 3);
        check_close(got, train(family, compute, micro, cpu_backend(1), 3), bound_of(compute));
        CHECK(train(family, compute, micro, host_device(cuda::Order::backward), 3).hash == got.hash);
        CHECK(train(family, compute, micro, host_device({}, {.sync = true}), 3).hash == got.hash);
    }
}

TEST_CASE("models train on a GPU as on the CPU, and twice alike") {
    auto const gpu = gpu_device();
    for (std::string family : {"gpt2", "llama"})
        for (auto compute : {f32, bf16}) {
            CAPTURE(family, name_of(compute));
            auto got = train(family, compute, 2, gpu, 200);
            auto want = train(family, compute, 2, cpu_backend(0), 200);
            auto mean = [](std::vector<double> const& x) {
                return std::accumulate(x.end() - 20, x.end(), 0.0) / 20;
            };
            CHECK(mean(got.losses) == Approx(mean(want.losses)).epsilon(0.02));
            CHECK(mean(got.losses) < got.losses.front());
            // Runs part slowly by their roundings: step by step only at first.
            for (auto* c : {&got, &want}) c->losses.resize(5), c->norms.resize(5);
            check_close(got, want, bound_of(compute));
            CHECK(train(family, compute, 2, gpu, 200).hash == got.hash);
            CHECK(train(family, compute, 2, gpu_device({.sync = true}), 200).hash == got.hash);
        }
}

TEST_CASE("a token outside the table is told by its op, in a step that is replayed too") {
    auto run = training("gpt2", {.dim = 32, .layers = 1, .heads = 2, .vocab = 61, .seq = 16}, Plan(),
                        host_device(), 4, 16);
    run(), run(), run();
    run.vocab = 90;
    try {
        for (int i = 0; i < 3; ++i) run();
        FAIL("a token outside the table was taken");
    } catch (Error const& e) {
        CHECK_THAT(e.what(), ContainsSubstring("lies outside its table") && ContainsSubstring("embedding"));
    }
}
