#include "plait/graph/micro.hpp"
#include "catch.hpp"
#include "kernel_cases.hpp"
#include "plait/graph/parts.hpp"
#include "plait/ops/view.hpp"

// The borders of the loop over micro-batches, called as the loop calls them.
using namespace plait;
using namespace tests;

namespace {

Numbers added(Numbers const& a, Numbers const& b) {
    Numbers sum(a.meta());
    for (std::int64_t i = 0; i < a.size(); ++i)
        sum.set(i, a.meta().dtype == f32 ? static_cast<float>(a(i)) + static_cast<float>(b(i)) : a(i) + b(i));
    return sum;
}

Numbers chain_of(std::vector<Numbers> const& x, std::size_t first, std::size_t count) {
    Numbers sum = x[first].copy();
    for (std::size_t i = 1; i < count; ++i) sum = added(sum, x[first + i]);
    return sum;
}

/// Chains of `chain` addends, then the halves: (0 + 1) + (2 + 3).
Numbers tree_of(std::vector<Numbers> const& x, std::size_t chain, std::size_t first, std::size_t count) {
    if (count == chain) return chain_of(x, first, chain);
    return added(tree_of(x, chain, first, count / 2), tree_of(x, chain, first + count / 2, count / 2));
}

/// What the kernel leaves when every micro-batch brings `links` of the addends.
Numbers by_kernel(std::vector<Numbers> const& x, std::int64_t chain, std::int64_t levels, std::size_t links,
                  int workers) {
    How how;
    how.workers = workers;
    for (std::size_t first = 0; first < x.size(); first += links, ++how.micro) {
        std::vector<Numbers> in;
        for (std::size_t i = 0; i < links; ++i) in.push_back(x[first + i].copy());
        how.before = run_kernel(MicroTree{chain, levels}, in, how);
    }
    return how.before[0].copy();
}

std::vector<Numbers> addends(DType t, std::int64_t n, std::size_t count) {
    std::vector<Numbers> x;
    // Of mixed size and with all bits, so that the order of a sum shows.
    for (std::size_t i = 0; i < count; ++i) {
        x.emplace_back(t, Shape{n}, 7 + i, static_cast<double>(1 << (i * 5 % 9)));
        for (std::int64_t k = 0; k < n; ++k) x.back().set(k, x.back()(k) / 3);
    }
    return x;
}

}  // namespace

TEST_CASE("a micro-batch's block comes from its place in the whole and goes back there") {
    Numbers x(f64, {3, 6, 5}, 1);
    How how;
    how.before = {Numbers(f64, {3, 6, 5}, 2)};
    std::vector<Numbers> blocks;
    for (how.micro = 0; how.micro < 3; ++how.micro) {
        blocks.push_back(run_kernel(MicroTake{1, 3}, {x}, how)[0]);
        CHECK(same_bits(blocks.back(), run_kernel(Slice{1, 2 * how.micro, 2}, {x})[0]));
    }
    for (int micro : {2, 0, 1}) {
        how.micro = micro;
        how.before = run_kernel(MicroStack{1, 3}, {blocks[static_cast<std::size_t>(micro)]}, how);
    }
    CHECK(same_bits(how.before[0], x));

    How adds;
    adds.accumulate = 1, adds.before = {x};
    auto sum = run_kernel(MicroSum{}, {x}, adds)[0];
    for (std::int64_t i = 0; i < x.size(); ++i) REQUIRE(sum(i) == 2 * x(i));
}

TEST_CASE("parts and their join are slices and their concatenation") {
    Numbers x(f64, {4, 6, 5}, 1);
    for (int dim : {0, 1, 2}) {
        std::vector<Numbers> parts;
        for (auto [start, length] : {std::pair{0, 1}, {1, 3}}) {
            parts.push_back(run_kernel(Part{dim, start, length}, {x})[0]);
            CHECK(same_bits(parts.back(), run_kernel(Slice{dim, start, length}, {x})[0]));
        }
        auto rest = x.meta().shape[dim] - 4;
        if (rest) parts.push_back(run_kernel(Part{dim, 4, rest}, {x})[0]);
        CHECK(same_bits(run_kernel(Join{dim}, parts)[0], x));
    }
}

TEST_CASE("a sum over micro-batches is chains in time, then a tree over the chains") {
    int orders = 0;
    for (auto t : {f32, f64})
        for (std::int64_t n : {1, 700, 9001})
            for (std::int64_t chain : {1, 2, 4})
                for (std::int64_t levels : {0, 1, 2, 3}) {
                    auto count = static_cast<std::size_t>(chain << levels);
                    auto x = addends(t, n, count);
                    auto want = tree_of(x, static_cast<std::size_t>(chain), 0, count);
                    for (std::size_t links = 1; links <= static_cast<std::size_t>(chain); links *= 2)
                        for (int workers : {1, 3}) {
                            CAPTURE(name_of(t), n, chain, levels, links, workers);
                            CHECK(same_bits(by_kernel(x, chain, levels, links, workers), want));
                        }
                    // Another order has other bits: that of a chain where a tree is due.
                    if (levels < 2 || n == 1) continue;
                    CHECK(!same_bits(chain_of(x, 0, count), want));
                    ++orders;
                }
    CHECK(orders > 20);
}

TEST_CASE("two addends of a tree that change places are noticed") {
    auto x = addends(f32, 700, 8);
    auto want = by_kernel(x, 1, 3, 1, 2);
    std::swap(x[1], x[2]);
    CHECK(!same_bits(by_kernel(x, 1, 3, 1, 2), want));
}
