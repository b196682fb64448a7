#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"
#include "row_runs.hpp"

#include <limits>

using namespace tests;
using namespace plait;

TEMPLATE_TEST_CASE("functions of one element", "", float, plait::Bf16) {
    constexpr auto t = plait::dtype_of<TestType>;
    for (int fn = 0; fn <= static_cast<int>(UnaryFn::is_finite); ++fn) {
        auto f = static_cast<UnaryFn>(fn);
        bool signs =
            f != UnaryFn::log && f != UnaryFn::sqrt && f != UnaryFn::rsqrt && f != UnaryFn::reciprocal;
        for (std::int64_t n : {1, 7, 2051}) {
            Numbers x(t, {n}, 3, 3), dy(t, {n}, 4);
            if (!signs) x = positive(x);
            check_row(Unary{f}, {x}, f == UnaryFn::is_finite);
            if (f == UnaryFn::is_finite) continue;
            check_row(UnaryGradient{f}, {x, dy}, false);
            check_row(Unary{f}, {x}, false, {.in_place = Alias{0, 0}});
            check_row(UnaryGradient{f}, {x, dy}, false, {.in_place = Alias{0, 1}});
        }
    }
    Numbers odd(t, {4}, 1);
    odd.set(0, std::numeric_limits<double>::infinity());
    odd.set(1, std::numeric_limits<double>::quiet_NaN());
    check_row(Unary{UnaryFn::is_finite}, {odd}, true);
    CHECK(std::isnan(run_row(Unary{UnaryFn::relu}, {odd})[0](1)));
    check_row(Affine{0.5, 3}, {Numbers(t, {5, 131}, 1)}, false);
    check_row(SwiGlu{}, {Numbers(t, {7, 99}, 1, 5), Numbers(t, {7, 99}, 2)}, false);
    std::vector<Numbers> three{Numbers(t, {7, 99}, 1, 5), Numbers(t, {7, 99}, 2), Numbers(t, {7, 99}, 3)};
    check_row(SwiGluGradient{}, three, false);
}

TEST_CASE("functions of two elements, of every pair of dtypes and shapes that repeat") {
    auto check = [](BinaryFn fn, Numbers const& a, Numbers const& b) { check_row(Binary{fn}, {a, b}, true); };
    for (int fn = 0; fn <= static_cast<int>(BinaryFn::less); ++fn) {
        auto f = static_cast<BinaryFn>(fn);
        for (auto s : {f32, bf16})
            for (auto t : {f32, bf16}) {
                check(f, Numbers(s, {3, 17}, 1), Numbers(t, {3, 17}, 2));
                check(f, Numbers(s, {5, 64}, 1), Numbers(t, {64}, 2));
                check(f, Numbers(s, {}, 1), Numbers(t, {4, 33}, 2));
            }
        if (f == BinaryFn::divide) continue;
        for (auto s : {i32, i64, u8})
            check(f, integers({4, 1, 7}, s == u8 ? 0 : -3, 9, s), integers({5, 1}, s == u8 ? 0 : -3, 9, i32));
    }
    for (auto t : {f32, bf16}) {
        check(BinaryFn::add, Numbers(t, {5000}, 1), Numbers(f32, {}, 2));
        check(BinaryFn::subtract, Numbers(t, {3, 1, 5, 1}, 1), Numbers(t, {2, 1, 7}, 2));
        check(BinaryFn::multiply, Numbers(f32, {4, 3}, 1), Numbers(t, {2, 4, 3}, 2));
        check(BinaryFn::subtract, Numbers(f32, {4, 1}, 1), Numbers(t, {2, 4, 40}, 2));
        check(BinaryFn::maximum, Numbers(t, {6, 1}, 1), Numbers(f32, {6, 9}, 2));
        check(BinaryFn::add, Numbers(t, {0, 3}, 1), Numbers(t, {3}, 2));
        Numbers nan(t, {3}, 1);
        nan.set(1, std::numeric_limits<double>::quiet_NaN());
        for (auto f : {BinaryFn::maximum, BinaryFn::minimum}) {
            CHECK(std::isnan(run_row(Binary{f}, {nan, Numbers(t, {3}, 2)})[0](1)));
            CHECK(std::isnan(run_row(Binary{f}, {Numbers(t, {3}, 2), nan})[0](1)));
        }
        for (int k : {0, 1})
            check_row(Binary{BinaryFn::add}, {Numbers(t, {77}, 1), Numbers(t, {77}, 2)}, true,
                      {.in_place = Alias{0, k}});
    }
}

TEST_CASE("casts between all dtypes") {
    for (auto from : {f32, bf16, i32, i64, u8})
        for (auto to : {f32, bf16, i32, i64, u8}) {
            check_row(Cast{to}, {integers({515}, 0, 200, from)}, true);
            if (is_floating(from)) check_row(Cast{to}, {positive(Numbers(from, {1100}, 5, 9))}, true);
        }
    // Sums of powers of two that f32 rounds, up and down.
    Numbers big({i64, {3}});
    big.set(0, 0x1p40 + 0x1p15 + 1), big.set(1, -0x1p33 - 511), big.set(2, 0x1p24 + 1);
    for (auto to : {f32, bf16}) check_row(Cast{to}, {big}, true);
}

TEST_CASE("choices, constants and indices") {
    for (auto t : {f32, bf16, i32, i64, u8}) {
        auto x = [&](std::int64_t least) { return integers({9, 55}, least, 90, t); };
        check_row(Select{}, {integers({9, 55}, 0, 2, u8), x(0), x(100)}, true);
        for (double value : {0.0, 0.3, 3.0, 1.0}) check_row(Full{value, t, {3, 333}}, {}, true);
        check_row(Iota{1, t, {3, 37, 5}}, {}, true);
        check_row(Iota{0, t, {40, 3}}, {}, true, {.out_blocks = {{{20, 3}, {80, 6}}}});
        for (int ok : {0, 1}) {
            check_row(Commit{}, {x(0), x(100), integers({}, ok, 1, u8)}, true);
            check_row(Commit{}, {x(0), x(100), integers({}, ok, 1, u8)}, true, {.in_place = Alias{0, 0}});
        }
        check_row(Expand{{0, 2}}, {integers({3, 4}, 0, 99, t), integers({2, 3, 5, 4}, 0, 9, t)}, true);
        check_row(Expand{{1}}, {integers({6}, 0, 99, t), integers({6, 70}, 0, 9, t)}, true);
        check_row(Expand{{0}}, {integers({16}, 0, 99, t), integers({5, 16}, 0, 9, t)}, true);
        check_row(Expand{{0}}, {integers({}, 0, 99, t), integers({41}, 0, 9, t)}, true);
    }
    check_row(Expand{{1}}, {Numbers(f32, {6}, 1), Numbers(bf16, {6, 70}, 2)}, true);
    check_row(Expand{{0}}, {Numbers(bf16, {6}, 1), Numbers(f32, {70, 6}, 2)}, true);
}

TEMPLATE_TEST_CASE("dropout has the CPU's mask, in blocks too", "", float, plait::Bf16) {
    constexpr auto t = plait::dtype_of<TestType>;
    auto key = integers({2}, -3, 100);
    Dropout const op{0.3, 0x123456789abcdef};
    check_row(op, {Numbers(t, {5, 401}, 1), key}, true);
    check_row(op, {Numbers(t, {1 << 13}, 1), key}, true, {.in_place = Alias{0, 0}});
    std::pair<Shape, Placement> const blocks[] = {{{4, 8, 16}, {{8, 0, 0}, {16, 8, 16}}},
                                                  {{4, 8, 16}, {{4, 8, 0}, {8, 16, 16}}},
                                                  {{4, 8, 16}, {{0, 0, 16}, {4, 8, 32}}},
                                                  {{4, 6, 5}, {{0, 6, 5}, {4, 12, 10}}},
                                                  {{4, 8, 1}, {{0, 0, 3}, {4, 8, 5}}},
                                                  {{3, 7}, {{1, 0}, {4, 7}}},
                                                  {{5, 12}, {{0, 4}, {5, 20}}}};
    for (auto const& [shape, at] : blocks)
        check_row(op, {Numbers(t, shape, 1), key}, true, {.out_blocks = {at}});
}

TEST_CASE("rounding at random has the CPU's bits, in blocks too") {
    auto key = integers({2}, -3, 100);
    StochasticRound const op{0x123456789abcdef};
    check_row(op, {Numbers(f32, {5, 401}, 1), key}, true);
    auto edges = Numbers(f32, {9}, 1);
    double const inf = std::numeric_limits<double>::infinity();
    for (auto [i, x] : {std::pair{0, inf}, {1, -inf}, {2, 3.4e38}, {3, 1e-40}, {4, -0.0}}) edges.set(i, x);
    check_row(op, {edges, key}, true);
    std::pair<Shape, Placement> const blocks[] = {{{4, 8, 16}, {{8, 0, 0}, {16, 8, 16}}},
                                                  {{4, 8, 16}, {{0, 0, 16}, {4, 8, 32}}},
                                                  {{4, 6, 5}, {{0, 6, 5}, {4, 12, 10}}},
                                                  {{5, 12}, {{0, 4}, {5, 20}}}};
    for (auto const& [shape, at] : blocks)
        check_row(op, {Numbers(f32, shape, 1), key}, true, {.out_blocks = {at}});
}

TEST_CASE("folds of tensors") {
    for (auto how : {Combine::sum, Combine::max})
        check_row(Fold{how}, {Numbers(f32, {3001}, 1), Numbers(f32, {3001}, 2), Numbers(f32, {3001}, 3)},
                  true);
    for (auto t : {i32, i64})
        for (auto how : {Combine::sum, Combine::integer_sum})
            check_row(Fold{how},
                      {integers({700}, -9, 99, t), integers({700}, 5, 99, t), integers({700}, 1, 9, t)}, true,
                      {.in_place = Alias{0, 0}});
    check_row(Fold{}, {Numbers(f32, {30}, 1)}, true);
    std::vector<Numbers> many;  // more than one launch takes
    for (std::uint64_t i = 0; i < 2 * gpu::most_addends + 3; ++i) many.emplace_back(f32, Shape{5}, i);
    check_row(Fold{}, many, true);
}

TEST_CASE("sums over micro-batches") {
    for (auto t : {f32, bf16, i32, i64}) {
        auto x = [&](std::int64_t least) { return integers({301}, least, 90, t); };
        check_row(MicroSum{}, {x(0)}, true);
        check_row(MicroSum{}, {x(0)}, true, {.accumulate = 1, .before = {x(-50)}});
    }
    for (auto t : {f32, bf16})
        for (std::int64_t links : {1, 3})
            for (std::int64_t chain : {links, 2 * links}) {
                MicroTree const op{chain, 2};
                std::vector<Numbers> got{Numbers(t, {7, 70}, 1), Numbers(t, {2, 7, 70}, 2)}, want = got;
                for (int micro = 0; micro < 4 * chain / links; ++micro) {
                    CAPTURE(links, chain, micro);
                    std::vector<Numbers> in;
                    for (std::int64_t k = 0; k < links; ++k)
                        in.emplace_back(t, Shape{7, 70}, static_cast<std::uint64_t>(10 * micro + k));
                    got = run_row(op, in, {.before = got, .micro = micro});
                    want = run_kernel(op, in, {.before = want, .micro = micro});
                    for (std::size_t i : {0, 1}) REQUIRE(same_bits(got[i], want[i]));
                }
            }
}
