#include "host_wire.hpp"

#include "catch.hpp"
#include "laws/ranks.hpp"
#include "plait/cuda/device.hpp"

using namespace tests;

namespace {

Subject small(std::string const& family, DType compute) {
    auto s = family == "gpt2" ? gpt2() : llama();
    s.config.dim = 32, s.config.heads = s.config.kv_heads = 2, s.config.hidden = 48, s.config.vocab = 64;
    s.config.loss_chunk = 16, s.batch = 8, s.seq = s.config.seq = 8;
    s.compute = compute;
    s.granularity = {4, 4, 2};
    return s;
}

/// What every rank has after three steps: asked for op by op, recorded, and replayed.
std::vector<Outcome> outcomes_on_host(Subject const& s, Arrangement const& a, HostRanks how = {}) {
    std::vector<Outcome> all(static_cast<std::size_t>(a.ranks()));
    auto failures = failures_of(
        a.ranks(),
        [&](HostRank& rank) {
            auto machine = std::shared_ptr<gpu::Machine>(&rank.machine, [](gpu::Machine*) {});
            all[static_cast<std::size_t>(rank.communicator.rank())] =
                train(rank.communicator, s, a, 3, {.backend = gpu::make_backend(machine)});
        },
        how);
    for (std::size_t r = 0; r < failures.size(); ++r) {
        INFO("rank " << r << ": " << failures[r]);
        REQUIRE(failures[r].empty());
    }
    return all;
}

std::vector<Arrangement> const layouts{{.data = 2, .zero = 3},
                                       {.tensor = 2},
                                       {.tensor = 1, .pipeline = 2},
                                       {.data = 2, .zero = 1, .tensor = 2, .sequence = true},
                                       {.data = 2, .micro = 2, .zero = 2, .tensor = 1}};

}  // namespace

TEST_CASE(
    "GPUs give the bits of one GPU on data, tensor, pipeline and ZeRO, ranks in opposite orders of streams") {
    for (auto const& [family, compute] : {std::pair<std::string, DType>{"llama", f32}, {"gpt2", bf16}}) {
        auto s = small(family, compute);
        auto const want = outcomes_on_host(s, {.tensor = 1}).front();
        REQUIRE(want.hash != 0);
        for (auto a : layouts) {
            if (a.tensor == 0) a.tensor = 1;
            INFO(text_of(s, a));
            for (auto const& o : outcomes_on_host(s, a)) CHECK(o == want);
        }
    }
}

TEST_CASE("leaves that are added up together give the bits of leaves that come one by one, in chains too") {
    auto s = small("gpt2", bf16);
    s.config.layers = 1;
    // Two virtual ranks of four leaves: one micro-batch has them all, of four each has two.
    s.granularity = {8, 2, 2};
    auto const want = outcomes_on_host(s, {.tensor = 1}).front();
    REQUIRE(want.hash != 0);
    for (Arrangement const& a :
         {Arrangement{.micro = 4, .tensor = 1}, Arrangement{.micro = 2, .tensor = 1},
          Arrangement{.data = 2, .tensor = 1}, Arrangement{.data = 2, .micro = 4, .tensor = 1}}) {
        INFO(text_of(s, a));
        for (auto const& o : outcomes_on_host(s, a)) CHECK(o == want);
    }
    // The control: runs of other lengths are added up in another order.
    s.granularity = {8, 4, 2};
    CHECK(outcomes_on_host(s, {.tensor = 1}).front().hash != want.hash);
}

TEST_CASE("without the events between streams the bits of a layout are lost") {
    auto s = small("llama", f32);
    auto const want = outcomes_on_host(s, {.tensor = 1}).front();
    bool differs = false;
    for (auto order : {gpu::Order::forward, gpu::Order::backward})
        for (auto const& o : outcomes_on_host(s, {.data = 2, .zero = 3, .tensor = 1},
                                              {.order = order, .forget = Forget::kernels_wait}))
            differs = differs || !(o == want);
    CHECK(differs);
}
