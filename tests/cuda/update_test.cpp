#include "plait/ops/update.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "row_runs.hpp"

#include <array>
#include <limits>

using namespace tests;

namespace {

std::vector<std::int64_t> const sizes{1, 7, 33, 1000, 4096, 9001};

Numbers scalar(plait::DType type, double value) {
    Numbers x({type, {}});
    x.set(0, value);
    return x;
}

/// What an update of a parameter reads.
std::vector<Numbers> parameter(std::int64_t n, plait::DType p, plait::DType g, plait::DType m) {
    auto seed = static_cast<std::uint64_t>(n);
    return {Numbers(p, {n}, seed), Numbers(g, {n}, seed + 1, 4), Numbers(m, {n}, seed + 2, 0.1),
            positive(Numbers(m, {n}, seed + 3, 0.01))};
}

}  // namespace

TEST_CASE("AdamW over many parameters is one launch") {
    using plait::bf16, plait::f32;
    std::array<plait::DType, 3> const dtypes[] = {
        {f32, f32, f32}, {bf16, bf16, bf16}, {bf16, bf16, f32}, {bf16, f32, bf16}, {bf16, f32, f32}};
    for (auto [p, g, m] : dtypes)
        for (int guard : {-1, 0, 1}) {
            std::int32_t step = guard < 0 ? 1 : 1000000;
            std::int64_t shift = guard == 1;
            CAPTURE(plait::name_of(p), plait::name_of(g), plait::name_of(m), guard);
            auto rate = scalar(f32, 3e-2), steps = scalar(plait::i32, step), scale = scalar(f32, 0.25),
                 ok = scalar(plait::u8, guard);
            std::vector<RowCall> calls;
            for (std::size_t k = 0; k < sizes.size(); ++k) {
                auto in = parameter(sizes[k], p, g, m);
                in.push_back(rate), in.push_back(steps);
                if (guard >= 0) in.push_back(scale), in.push_back(ok);
                plait::AdamWUpdate op{
                    .decay = k % 3 ? 0.1 : 0.0, .scaled = guard >= 0, .guarded = guard >= 0};
                How how{.shift = shift};
                if (k % 2) how.in_place = plait::Alias{0, 0};
                calls.push_back({op, in, how});
            }
            auto got = run_rows(calls), other = run_rows(calls, gpu::Order::backward);
            REQUIRE(got.launches == 1);
            for (std::size_t k = 0; k < sizes.size(); ++k) {
                INFO("parameter of " << sizes[k]);
                same(got.out[k], run_kernel(calls[k].op, calls[k].in, calls[k].how));
                for (std::size_t i = 0; i < 3; ++i) {
                    REQUIRE(same_bits(got.out[k][i], other.out[k][i]));
                    if (guard == 0) REQUIRE(same_bits(got.out[k][i], calls[k].in[i ? i + 1 : 0]));
                }
            }
            REQUIRE(same_bits(run_rows({calls[3]}).out[0][0], got.out[3][0]));
        }
}

TEST_CASE("AdamW rounds bf16 parameters with the CPU's random bits, in one launch, in blocks too") {
    using plait::bf16, plait::f32, plait::Placement, plait::Shape;
    std::pair<Shape, Placement> const blocks[] = {{{1}, {}},
                                                  {{9001}, {}},
                                                  {{64, 72}, {}},
                                                  {{4, 8, 16}, {{8, 0, 0}, {16, 8, 16}}},  // a run
                                                  {{40, 72}, {{7, 0}, {64, 72}}},     // a run from any row on
                                                  {{300, 16}, {{0, 16}, {300, 32}}},  // rows of packs
                                                  {{30, 37}, {{4, 3}, {64, 41}}},     // rows at odd places
                                                  {{50, 1}, {{2, 3}, {64, 5}}},       // a column
                                                  {{3, 5, 8}, {{0, 5, 8}, {3, 10, 16}}},  // slices of rows
                                                  {{2, 3, 5, 7}, {{1, 3, 0, 7}, {4, 6, 5, 21}}},
                                                  {{4, 5, 1}, {{0, 5, 1}, {4, 10, 2}}},
                                                  {{0, 8}, {{0, 0}, {4, 8}}}};
    std::array<plait::DType, 2> const dtypes[] = {{bf16, bf16}, {bf16, f32}, {f32, bf16}, {f32, f32}};
    Numbers key({plait::i32, {2}});
    key.set(0, -3), key.set(1, 100);
    auto rate = scalar(f32, 3e-2), steps = scalar(plait::i32, 7), scale = scalar(f32, 0.25);
    for (auto [g, m] : dtypes)
        for (int guard : {-1, 0, 1}) {
            CAPTURE(plait::name_of(g), plait::name_of(m), guard);
            auto ok = scalar(plait::u8, guard);
            std::vector<RowCall> calls;
            for (auto const& [shape, at] : blocks) {
                auto n = shape.elements();
                auto seed = static_cast<std::uint64_t>(calls.size());
                std::vector<Numbers> in{Numbers(bf16, shape, seed), Numbers(g, shape, seed + 1),
                                        Numbers(m, shape, seed + 2, 0.1),
                                        positive(Numbers(m, shape, seed + 3))};
                // The step is the rate, up or down, so that nothing rounds before the random bits come.
                for (std::int64_t i = 0; i < n; ++i) in[1].set(i, in[1](i) < 0 ? -0.5 : 2.0);
                in.push_back(rate), in.push_back(steps), in.push_back(key);
                if (guard >= 0) in.push_back(scale), in.push_back(ok);
                plait::AdamWUpdate op{.beta1 = 0,
                                      .beta2 = 0,
                                      .eps = 0,
                                      .scaled = guard >= 0,
                                      .guarded = guard >= 0,
                                      .stochastic = true,
                                      .site = 77 + seed};
                How how{.shift = guard == 1};
                if (seed % 2) how.in_place = plait::Alias{0, 0};
                how.out_blocks.assign(3, at);
                calls.push_back({op, in, how});
            }
            auto got = run_rows(calls), other = run_rows(calls, gpu::Order::backward);
            REQUIRE(got.launches == 1);
            for (std::size_t k = 0; k < calls.size(); ++k) {
                INFO("parameter " << k);
                auto want = run_kernel(calls[k].op, calls[k].in, calls[k].how);
                for (std::size_t i = 0; i < 3; ++i) {
                    REQUIRE(same_bits(got.out[k][i], want[i]));
                    REQUIRE(same_bits(got.out[k][i], other.out[k][i]));
                }
                REQUIRE(same_bits(got.out[k][0], run_rows({calls[k]}).out[0][0]));
            }
            if (guard == 0) continue;
            // Another site, place or step gives other bits.
            auto moved = calls[5];
            moved.how.out_blocks.assign(3, Placement{{0, 0}, {300, 32}});
            auto elsewhere = calls[5];
            elsewhere.op = plait::AdamWUpdate{.beta1 = 0,
                                              .beta2 = 0,
                                              .eps = 0,
                                              .scaled = guard > 0,
                                              .guarded = guard > 0,
                                              .stochastic = true,
                                              .site = 1};
            for (auto const& changed : {moved, elsewhere})
                CHECK(!same_bits(run_rows({changed}).out[0][0], got.out[5][0]));
        }
}

TEST_CASE("more stochastic updates than fit a launch are several") {
    auto rate = scalar(plait::f32, 1e-2), step = scalar(plait::i32, 3);
    Numbers key({plait::i32, {2}});
    std::vector<RowCall> calls;
    for (int k = 0; k < 320; ++k) {
        auto in = parameter(5, plait::bf16, plait::f32, plait::f32);
        in.push_back(rate), in.push_back(step), in.push_back(key);
        calls.push_back({plait::AdamWUpdate{.stochastic = true, .site = static_cast<std::uint64_t>(k)}, in});
    }
    auto got = run_rows(calls);
    REQUIRE(got.launches == 2);
    for (std::size_t k = 0; k < calls.size(); ++k) same(got.out[k], run_kernel(calls[k].op, calls[k].in));
}

TEST_CASE("updates that differ in more than their decay are several launches") {
    auto rate = scalar(plait::f32, 1e-2), other = scalar(plait::f32, 1e-3), step = scalar(plait::i32, 3);
    std::vector<RowCall> calls;
    for (int k = 0; k < 8; ++k) {
        auto type = k % 2 ? plait::f32 : plait::bf16;
        auto in = parameter(5, type, type, type);
        in.push_back(k == 3 ? other : rate), in.push_back(step);
        calls.push_back({plait::AdamWUpdate{.beta1 = k == 5 ? 0.8 : 0.9, .eps = k == 6 ? 1e-6 : 1e-8}, in});
    }
    auto got = run_rows(calls);
    REQUIRE(got.launches == 5);
    for (std::size_t k = 0; k < calls.size(); ++k) same(got.out[k], run_kernel(calls[k].op, calls[k].in));
}

TEST_CASE("more tensors than fit a launch are several") {
    auto rate = scalar(plait::f32, 1e-2), step = scalar(plait::i32, 3), most = scalar(plait::f32, 1);
    std::vector<RowCall> updates, largest, squares;
    for (int k = 0; k < 1030; ++k) {
        auto in = parameter(k % 32 ? 0 : 5, plait::f32, plait::f32, plait::f32);
        largest.push_back({plait::MaxAbsolute{}, {in[1]}});
        squares.push_back({plait::Squares{20}, {in[0], most}});
        in.push_back(rate), in.push_back(step);
        if (k < 450) updates.push_back({plait::AdamWUpdate{}, in});
    }
    std::pair<std::vector<RowCall>, int> const all[] = {{updates, 2}, {largest, 4}, {squares, 4}};
    for (auto const& [calls, launches] : all) {
        CAPTURE(calls[0].op.name());
        auto got = run_rows(calls);
        REQUIRE(got.launches == launches);
        for (std::size_t k = 0; k < calls.size(); ++k) same(got.out[k], run_kernel(calls[k].op, calls[k].in));
    }
}

TEMPLATE_TEST_CASE("the gradients' norm has the CPU's bits", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    double const inf = std::numeric_limits<double>::infinity();
    // The largest number to put in, and the scale of the others.
    for (auto [largest, scale] : std::vector<std::pair<double, double>>{{0.5, 0.5},
                                                                        {3.0, 1.0},
                                                                        {3.3e38, 1.0},
                                                                        {3.3e38, 3e38},
                                                                        {1e-38, 1e-38},
                                                                        {1e-40, 1e-41},
                                                                        {1.0, 1e-9},
                                                                        {0, 0},
                                                                        {inf, 1.0},
                                                                        {std::nan(""), 1.0}})
        for (int bits : {31, 30, 17, 1}) {
            CAPTURE(largest, scale, bits);
            std::vector<Numbers> x;
            Numbers most({plait::f32, {}});
            for (auto n : sizes) x.emplace_back(type, plait::Shape{n}, static_cast<std::uint64_t>(n), scale);
            x[3].set(500, largest);
            for (auto const& one : x) {
                auto m = run_kernel(plait::MaxAbsolute{}, {one})[0](0);
                if (!(most(0) >= m || std::isnan(most(0)))) most.set(0, m);
            }
            std::int64_t hi = 0, lo = 0;
            for (auto const& one : x) {
                auto words = run_kernel(plait::Squares{bits}, {one, most})[0];
                auto const* w = reinterpret_cast<std::int64_t const*>(words.data());
                hi += w[0], lo += w[1];
            }
            Numbers words({plait::i64, {2}});
            std::memcpy(words.data(), &hi, 8);
            std::memcpy(words.data() + 8, &lo, 8);
            auto norm = run_kernel(plait::NormOfSquares{bits}, {words, most})[0];

            std::vector<RowCall> largest_calls, squares_calls;
            for (auto const& one : x) {
                How how{.shift = bits == 30};
                largest_calls.push_back({plait::MaxAbsolute{}, {one}, how});
                squares_calls.push_back({plait::Squares{bits}, {one, most}, how});
            }
            for (auto order : {gpu::Order::forward, gpu::Order::backward}) {
                auto tops = run_rows(largest_calls, order), parts = run_rows(squares_calls, order);
                REQUIRE(tops.launches == 2);
                REQUIRE(parts.launches == 2);
                for (std::size_t k = 0; k < x.size(); ++k) {
                    REQUIRE(same_bits(tops.out[k][0], run_kernel(plait::MaxAbsolute{}, {x[k]})[0]));
                    REQUIRE(same_bits(parts.out[k][0], run_kernel(plait::Squares{bits}, {x[k], most})[0]));
                }
            }
            REQUIRE(same_bits(run_row(plait::NormOfSquares{bits}, {words, most})[0], norm));
        }
}
