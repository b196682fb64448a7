#include "kernel_runs.hpp"

#include "cuda/device/reduce.cuh"

// What the host tells of kernels that a GPU would hang on, or give rubbish for.
using namespace tests;
using plait::cuda::Block;
using plait::cuda::KernelFault;
using plait::cuda::Order;

namespace {

enum class Wrong {
    nothing,
    no_barrier,
    some_skip,
    other_barrier,
    lane_skips,
    lane,
    misaligned,
    other_memory,
    throws
};

/// y[block] = the sum of 64 numbers of a block, which goes wrong as asked.
struct Sum {
    static constexpr char const* name = "sum";
    static constexpr int threads = 64;
    struct Shared {
        alignas(16) float warps[4];
    };
    float const* x;
    float* y;
    Wrong wrong;

    void operator()(Block const& block, Shared& shared) const {
        int thread = block.thread();
        float v = x[block.index() * threads + thread];
        if (wrong == Wrong::throws && thread == 40) throw std::runtime_error("thrown by a thread");
        if (wrong == Wrong::misaligned) plait::cuda::load_words<4>(x + 1);
        if (wrong == Wrong::other_memory) plait::cuda::load_words<4>(shared.warps);
        if (wrong == Wrong::lane) v += block.shuffle(v, 32);
        if (wrong == Wrong::some_skip && thread == 5) return;
        for (int mask = 16; mask > 0; mask /= 2)
            if (wrong != Wrong::lane_skips || thread != 33) v += block.shuffle_xor(v, mask);
        if (thread % 32 == 0) shared.warps[thread / 32] = v;
        if (wrong == Wrong::other_barrier && thread >= 32) block.barrier();
        else if (wrong != Wrong::no_barrier) block.barrier();
        if (thread == 0) y[block.index()] = shared.warps[0] + shared.warps[1];
    }
};

Numbers sums(Wrong wrong, Order order = Order::forward) {
    Memory<float> x(Numbers(plait::f32, {192}, 1)), y(3);
    plait::cuda::launch(Sum{x.get(), y.get(), wrong}, 3, order);
    return y.numbers(plait::f32, {3});
}

}  // namespace

TEST_CASE("threads of a block meet at barriers and shuffles") {
    Numbers x(plait::f32, {192}, 1);
    for (auto order : {Order::forward, Order::backward}) {
        auto y = sums(Wrong::nothing, order);
        for (int b = 0; b < 3; ++b) {
            double want = 0;
            for (int i = 0; i < 64; ++i) want += x(64 * b + i);
            REQUIRE(y(b) == Approx(want).margin(1e-5));
        }
    }
}

TEST_CASE("what not all threads reach is told, with who waits where") {
    REQUIRE_THROWS_WITH(
        sums(Wrong::some_skip),
        ContainsSubstring("sum: deadlock in block 0") &&
            ContainsSubstring("31 threads from 0 on wait at the shuffle of block_test.cpp:") &&
            ContainsSubstring("1 threads from 5 on have ended") &&
            ContainsSubstring("32 threads from 32 on wait at the barrier of block_test.cpp:"));
    REQUIRE_THROWS_WITH(sums(Wrong::other_barrier, Order::backward),
                        ContainsSubstring("sum: deadlock in block 2: 32 threads from ") &&
                            ContainsSubstring("32 threads from 32 on wait at the barrier of"));
    REQUIRE_THROWS_WITH(sums(Wrong::lane_skips),
                        ContainsSubstring("31 threads from 32 on wait at the shuffle of") &&
                            ContainsSubstring("33 threads from 0 on wait at the barrier of"));
}

TEST_CASE("a forgotten barrier shows in the order of threads") {
    auto one = sums(Wrong::no_barrier, Order::forward), other = sums(Wrong::no_barrier, Order::backward);
    REQUIRE_FALSE(same_bits(one, other));
    REQUIRE(same_bits(sums(Wrong::nothing, Order::forward), sums(Wrong::nothing, Order::backward)));
}

TEST_CASE("lanes that are none, addresses that are not aligned and exceptions are told") {
    REQUIRE_THROWS_WITH(sums(Wrong::lane), ContainsSubstring("sum: shuffle with lane 32 in block 0"));
    REQUIRE_THROWS_WITH(sums(Wrong::misaligned), ContainsSubstring("not aligned"));
    REQUIRE_THROWS_WITH(sums(Wrong::other_memory), ContainsSubstring("a load of words is of shared memory"));
    REQUIRE_THROWS_WITH(sums(Wrong::throws), ContainsSubstring("thrown by a thread"));
    REQUIRE(sums(Wrong::nothing).size() == 3);  // after all that
}

TEST_CASE("every kernel of the table fits a block") {
    gpu::Table::each([]<class... K>() {
        // As many as shall run beside each other share what a multiprocessor has, which takes 1 KB a block
        // itself.
        auto together = []<class One>() {
            if constexpr (requires { One::blocks_per_sm; }) return One::blocks_per_sm;
            else return 1;
        };
        for (auto bytes : {(sizeof(typename K::Shared) + 1024) *
                           static_cast<std::size_t>(together.template operator()<K>())...})
            REQUIRE(bytes <= 228 << 10);
        for (auto bytes : {sizeof(K)...}) REQUIRE(bytes <= gpu::most_argument_bytes);
    });
}
