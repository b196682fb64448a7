#include "kernel_runs.hpp"

#include "cuda/device/tensor_core.cuh"
#include "cuda/kernels/tensor_tiles.cuh"

#include <cmath>
#include <set>

// What the host plays of tensor cores and copies, held to the PTX ISA's pictures of fragments.
using namespace tests;
using plait::cuda::Block;
using plait::cuda::KernelFault;
using plait::cuda::Order;
using plait::cuda::SharedAddress;
using plait::cuda::Words;

namespace {

std::uint32_t bf16_pair_of(float low, float high) { return plait::cuda::bf16_pair(low, high); }

/// One product, from and to matrices in memory: the lanes find their elements by the formulas of "Matrix
/// fragments for mma.m16n8k16 with floating point types".
struct Product {
    static constexpr char const* name = "product";
    static constexpr int threads = 64;
    using Shared = plait::cuda::NoShared;
    float const *a, *b;  // [2 warps, 16, 16], [2 warps, 16, 8]
    float* c;            // [2 warps, 16, 8], which it adds to
    int missing = -1;    // a thread that does not come

    void operator()(Block const& block, Shared&) const {
        int warp = block.thread() / 32, lane = block.thread() % 32, group = lane >> 2, in_group = lane % 4;
        float const *x = a + 256 * warp, *y = b + 128 * warp;
        float* z = c + 128 * warp;
        auto of_a = [&](int i) {
            int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
            int column = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
            return x[row * 16 + column];
        };
        auto of_b = [&](int i) {
            int row = i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
            return y[row * 8 + group];
        };
        auto at_c = [&](int i) { return (i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1); };
        Words<4> left;
        for (int r = 0; r < 4; ++r) left.at[r] = bf16_pair_of(of_a(2 * r), of_a(2 * r + 1));
        float sums[4];
        for (int i = 0; i < 4; ++i) sums[i] = z[at_c(i)];
        if (block.thread() == missing) return;
        plait::cuda::mma(block, sums, left, bf16_pair_of(of_b(0), of_b(1)), bf16_pair_of(of_b(2), of_b(3)));
        for (int i = 0; i < 4; ++i) z[at_c(i)] = sums[i];
    }
};

/// What each lane gets of 32 rows of 8 half words, which are numbered; lane l says where row `order[l]` is.
struct Pieces {
    static constexpr char const* name = "pieces";
    static constexpr int threads = 32;
    struct Shared {
        alignas(16) std::uint16_t rows[32][8];
    };
    std::uint32_t* y;  // [32, 4]
    bool transposed;
    int step;  // row l is at place l * step % 32
    int off = 0, missing = -1;

    void operator()(Block const& block, Shared& shared) const {
        int lane = block.thread();
        auto* row = shared.rows[lane * step % 32];
        for (int c = 0; c < 8; ++c) row[c] = static_cast<std::uint16_t>(8 * lane + c);
        block.barrier();
        if (lane == missing) return;
        auto at = SharedAddress(row) + off;
        auto x =
            transposed ? plait::cuda::load_transposed_pieces(block, at) : plait::cuda::load_pieces(block, at);
        for (int i = 0; i < 4; ++i) y[4 * lane + i] = x.at[i];
    }
};

/// Copies two groups of a number a thread; `waits` says for which it waits, and whether at a barrier too.
struct Copies {
    static constexpr char const* name = "copies";
    static constexpr int threads = 32;
    struct Shared {
        alignas(16) float at[2][threads][4];
    };
    float const* x;  // [2, threads, 4]
    float* y;        // [2, threads]
    bool first, second, barrier;
    int zeros_from = threads, off = 0;
    bool words = false;  // copies of 4 bytes each

    void operator()(Block const& block, Shared& shared) const {
        int t = block.thread();
        for (int group = 0; group < 2; ++group) {
            auto to = SharedAddress(shared.at[group][t]);
            auto const* from = reinterpret_cast<std::byte const*>(x + (group * threads + t) * 4) + off;
            for (int i = 0; i < 4 && words; ++i)
                plait::cuda::begin_copy<4>(block, to + 4 * i, from + 4 * i, t < zeros_from);
            if (!words) plait::cuda::begin_copy<16>(block, to, from, t < zeros_from);
            plait::cuda::commit_copies(block);
        }
        if (first) plait::cuda::wait_copies<1>(block);
        if (barrier) block.barrier();
        y[t] = shared.at[0][threads - 1 - t][1];
        if (second) plait::cuda::wait_copies<0>(block);
        if (barrier) block.barrier();
        y[threads + t] = shared.at[1][threads - 1 - t][1];
    }
};

struct Large {
    static constexpr char const* name = "large";
    static constexpr int threads = 32;
    struct Shared {
        float at[20000];
    };
    void operator()(Block const&, Shared&) const {}
};

}  // namespace

TEST_CASE("a product of fragments is the product of matrices") {
    Memory<float> a(512), b(256), c(256);
    std::vector<double> want(256);
    for (auto order : {Order::forward, Order::backward}) {
        for (int i = 0; i < 512; ++i) a[i] = static_cast<float>(i % 256 + (i < 256 ? 0 : -400));
        for (int i = 0; i < 256; ++i) b[i] = static_cast<float>(i - 128), c[i] = static_cast<float>(1000 * i);
        for (int w = 0; w < 2; ++w)
            for (int i = 0; i < 16; ++i)
                for (int j = 0; j < 8; ++j) {
                    auto& y = want[static_cast<std::size_t>(w * 128 + i * 8 + j)];
                    y = c[w * 128 + i * 8 + j];
                    // All of these are numbers of bf16.
                    auto rounded = [](float x) {
                        return static_cast<double>(static_cast<float>(plait::Bf16(x)));
                    };
                    for (int k = 0; k < 16; ++k)
                        y += rounded(a[w * 256 + i * 16 + k]) * rounded(b[w * 128 + k * 8 + j]);
                }
        plait::cuda::launch(Product{a.get(), b.get(), c.get()}, 1, order);
        for (int i = 0; i < 256; ++i) REQUIRE(c[i] == want[static_cast<std::size_t>(i)]);
    }
    REQUIRE_THROWS_WITH(
        plait::cuda::launch(Product{a.get(), b.get(), c.get(), 40}, 1),
        ContainsSubstring("product: deadlock in block 0") &&
            ContainsSubstring("31 threads from 32 on wait at the mma of tensor_core_test.cpp:"));
}

TEST_CASE("pieces come to lanes as they are, and transposed") {
    Memory<std::uint32_t> y(128);
    for (auto order : {Order::forward, Order::backward})
        for (bool transposed : {false, true})
            for (int step : {1, 5}) {
                plait::cuda::launch(Pieces{y.get(), transposed, step}, 1, order);
                for (int lane = 0; lane < 32; ++lane)
                    for (int piece = 0; piece < 4; ++piece)
                        for (int i = 0; i < 2; ++i) {
                            int row = lane / 4, column = 2 * (lane % 4) + i;
                            if (transposed) std::swap(row, column);
                            auto want = static_cast<std::uint32_t>(64 * piece + 8 * row + column);
                            REQUIRE((y[4 * lane + piece] >> (16 * i) & 0xffffu) == want);
                        }
            }
    REQUIRE_THROWS_WITH(plait::cuda::launch(Pieces{y.get(), false, 1, 8}, 1),
                        ContainsSubstring("a piece in shared memory is not aligned"));
    REQUIRE_THROWS_WITH(plait::cuda::launch(Pieces{y.get(), true, 1, 16}, 1),
                        ContainsSubstring("a piece is outside the block's shared memory"));
    REQUIRE_THROWS_WITH(
        plait::cuda::launch(Pieces{y.get(), true, 1, 0, 3}, 1),
        ContainsSubstring(
            "31 threads from 0 on wait at the load of transposed pieces of tensor_core_test.cpp:"));
}

TEST_CASE("copies arrive at the wait that ends them, for other threads at the barrier") {
    Memory<float> x(Numbers(plait::f32, {256}, 1)), y(64);
    constexpr int n = Copies::threads;
    auto run = [&](Copies c, Order order = Order::forward) {
        c.x = x.get(), c.y = y.get();
        plait::cuda::launch(c, 1, order);
        return y.numbers(plait::f32, {2 * n});
    };
    for (auto order : {Order::forward, Order::backward}) {
        auto all = run({nullptr, nullptr, true, true, true}, order);
        for (int i = 0; i < 2 * n; ++i) {
            int other = i / n * n + n - 1 - i % n;
            REQUIRE(all(i) == x[4 * other + 1]);
        }
        for (bool words : {false, true}) {
            auto part = run({nullptr, nullptr, true, true, true, 20, 0, words}, order);
            for (int i = 0; i < n; ++i) REQUIRE(part(i) == (n - 1 - i < 20 ? x[4 * (n - 1 - i) + 1] : 0.0f));
        }
    }
    auto unwaited = run({nullptr, nullptr, false, true, true});
    // The first half runs before those whose numbers it reads have come to their second wait.
    for (int i = 0; i < n / 2; ++i) REQUIRE(std::isnan(unwaited(i)));
    for (int i = n; i < 2 * n; ++i) REQUIRE_FALSE(std::isnan(unwaited(i)));
    // Without a barrier it depends on who runs first.
    int missing = 0;
    for (auto order : {Order::forward, Order::backward}) {
        auto alone = run({nullptr, nullptr, true, true, false}, order);
        for (int i = 0; i < n; ++i) missing += alone(i) != x[4 * (n - 1 - i) + 1];
    }
    REQUIRE(missing > 0);
    REQUIRE_THROWS_WITH(run({nullptr, nullptr, true, false, true}),
                        ContainsSubstring("ends with copies that it never waited for"));
    REQUIRE_THROWS_WITH(run({nullptr, nullptr, true, true, true, n, 4}),
                        ContainsSubstring("a copy of words is not aligned"));
    REQUIRE_THROWS_WITH(run({nullptr, nullptr, true, true, true, n, 2, true}),
                        ContainsSubstring("a copy of words is not aligned"));
}

TEST_CASE("shared memory that a compiler does not lay out is asked for") {
    REQUIRE(plait::cuda::dynamic_bytes<Copies> == 0);
    REQUIRE(plait::cuda::dynamic_bytes<Large> == 80000);
}

TEST_CASE("blocks of attention have every tile of every head once, the longest of some heads first") {
    for (int heads : {1, 5, 12})
        for (int tiles : {1, 3})
            for (std::int64_t bytes : {std::int64_t{100}, std::int64_t{6} << 20, std::int64_t{1} << 40}) {
                std::set<std::pair<int, int>> seen;
                int last_head = -1;
                for (int block = 0; block < heads * tiles; ++block) {
                    auto here = plait::cuda::HeadTile::of(block, heads, tiles, bytes);
                    REQUIRE((here.head >= 0 && here.head < heads && here.tile >= 0 && here.tile < tiles));
                    REQUIRE(seen.insert({here.head, here.tile}).second);
                    // No head begins before those so far that are not beside it have ended.
                    if (bytes == std::int64_t{1} << 40) {
                        REQUIRE(here.head >= last_head);
                        last_head = here.head;
                    }
                    if (bytes == 100) REQUIRE(here.tile == block / heads);
                }
            }
}
