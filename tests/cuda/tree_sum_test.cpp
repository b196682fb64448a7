#include "kernel_runs.hpp"
#include "plait/comm/ordered.hpp"

#include "../comm/verbs.hpp"

#include <cmath>
#include <limits>

using namespace tests;

namespace {

template <class T>
using Device = std::conditional_t<std::is_same_v<T, plait::Bf16>, gpu::Bf16, T>;

/// The kernel's bits, which must be the same in both orders.
template <class T, int levels>
std::vector<T> sum_by(std::vector<std::vector<T>> const& x, int rank, std::int64_t stride, std::int64_t shift,
                      plait::Combine how, bool in_place) {
    auto const n = std::ssize(x[0]);
    std::vector<T> got[2];
    for (auto order : {gpu::Order::forward, gpu::Order::backward}) {
        Memory<Device<T>> rows(stride * std::ssize(x), shift), own(n, shift), out(n, shift);
        for (std::size_t r = 0; r < x.size(); ++r)
            if (static_cast<int>(r) != rank && n)
                std::memcpy(rows.get() + static_cast<std::int64_t>(r) * stride, x[r].data(),
                            x[r].size() * sizeof(T));
        if (n)
            std::memcpy(own.get(), x[static_cast<std::size_t>(rank)].data(),
                        static_cast<std::size_t>(n) * sizeof(T));
        auto* y = in_place ? own.get() : out.get();
        gpu::TreeSum<Device<T>, levels> kernel{.rows = rows.get(),
                                               .stride = stride,
                                               .own = own.get(),
                                               .rank = rank,
                                               .ranks = static_cast<int>(x.size()),
                                               .max = how == plait::Combine::max,
                                               .out = y,
                                               .n = n};
        gpu::launch(kernel, kernel.blocks(), order);
        auto const* first = reinterpret_cast<T const*>(y);
        got[order == gpu::Order::backward].assign(first, first + n);
    }
    REQUIRE(same_bits(got[0], got[1]));
    return got[0];
}
/// Those of either kernel, where both serve.
template <class T>
std::vector<T> sum(std::vector<std::vector<T>> const& x, int rank, std::int64_t stride, std::int64_t shift,
                   plait::Combine how, bool in_place) {
    auto y = sum_by<T, gpu::most_levels>(x, rank, stride, shift, how, in_place);
    if (x.size() < 4 << gpu::few_levels)
        REQUIRE(same_bits(sum_by<T, gpu::few_levels>(x, rank, stride, shift, how, in_place), y));
    return y;
}

}  // namespace

TEMPLATE_TEST_CASE("sums over ranks have the bits of ordered_combine", "", float, plait::Bf16, double,
                   std::int32_t, std::int64_t) {
    for (int ranks : {1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 32, 77})
        for (std::int64_t n : {1, 7, 16, 1003})
            for (auto how : {plait::Combine::sum, plait::Combine::max}) {
                CAPTURE(ranks, n);
                std::vector<std::vector<TestType>> x;
                for (int r = 0; r < ranks; ++r) x.push_back(values<TestType>(r, n));
                auto want = combined<TestType>(ranks, n, how);
                int rank = ranks / 2;
                auto wide = (n + 15) / 16 * 16;
                CHECK(same_bits(sum(x, rank, wide, 0, how, false), want));
                CHECK(same_bits(sum(x, 0, wide, 0, how, true), want));
                CHECK(same_bits(sum(x, ranks - 1, n, 1, how, true), want));
            }
}

TEST_CASE("a NaN of any rank wins a max on a GPU too") {
    float const nan = std::numeric_limits<float>::quiet_NaN();
    for (int who = 0; who < 3; ++who) {
        std::vector<std::vector<float>> x{{1, -2}, {3, -1}, {2, -3}};
        x[static_cast<std::size_t>(who)][0] = nan;
        auto y = sum(x, 1, 4, 0, plait::Combine::max, false);
        CHECK((std::isnan(y[0]) && y[1] == -1));
    }
}
