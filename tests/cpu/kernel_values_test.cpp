#include "kernel_cases.hpp"
#include "plait/ops/attention.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/norm.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"
#include "plait/ops/view.hpp"

#include "catch.hpp"

#include <cmath>
#include <map>

// Kernels against loops that say what the op means, in f64; f32 and bf16 are held to f64 in kernels_test.cpp.
using namespace plait;
using namespace tests;

namespace {

Numbers f64s(Shape shape, std::uint64_t seed, double scale = 1) { return Numbers(f64, shape, seed, scale); }

void near(Numbers const& got, std::int64_t i, double want) {
    INFO("element " << i);
    REQUIRE(got(i) == Approx(want).margin(1e-11));
}

/// The index of element `i` of `shape` along each dim.
std::vector<std::int64_t> index_of(Shape const& shape, std::int64_t i) {
    std::vector<std::int64_t> at(static_cast<std::size_t>(shape.rank()));
    for (int d = shape.rank() - 1; d >= 0; --d) at[static_cast<std::size_t>(d)] = i % shape[d], i /= shape[d];
    return at;
}
std::int64_t offset_of(Shape const& shape, std::vector<std::int64_t> const& at) {
    std::int64_t i = 0;
    for (int d = 0; d < shape.rank(); ++d) i = i * shape[d] + at[static_cast<std::size_t>(d)];
    return i;
}

}  // namespace

TEST_CASE("broadcasts repeat missing dims and dims of one") {
    std::pair<Shape, Shape> const shapes[] = {
        {{2, 3, 4}, {2, 3, 4}}, {{2, 3, 4}, {}},           {{}, {5}},
        {{2, 3, 4}, {3, 1}},    {{7, 1, 5}, {6, 1}},       {{1, 4}, {3, 1, 1}},
        {{2, 1, 1200}, {3, 1}}, {{2, 5, 1, 3}, {1, 4, 3}},
    };
    for (auto const& [sa, sb] : shapes) {
        auto a = f64s(sa, 1), b = f64s(sb, 2);
        auto y = run_kernel(Binary{BinaryFn::subtract}, {a, b})[0];
        auto const& s = y.meta().shape;
        for (std::int64_t i = 0; i < y.size(); ++i) {
            auto pick = [&](Numbers const& x) {
                auto at = index_of(s, i);
                auto const& own = x.meta().shape;
                at.erase(at.begin(), at.begin() + (s.rank() - own.rank()));
                for (int d = 0; d < own.rank(); ++d)
                    if (own[d] == 1) at[static_cast<std::size_t>(d)] = 0;
                return x(offset_of(own, at));
            };
            REQUIRE(y(i) == pick(a) - pick(b));
        }
    }
}

TEST_CASE("reductions and expansions over any dims") {
    Shape shape{3, 4, 1, 5, 6};
    auto x = f64s(shape, 3);
    for (std::vector<int> dims :
         {std::vector<int>{}, {0}, {4}, {2}, {1, 2}, {0, 1}, {0, 3}, {1, 4}, {0, 2, 4}, {0, 1, 2, 3, 4}}) {
        auto sums = run_kernel(Reduce{ReduceFn::sum, dims}, {x})[0],
             most = run_kernel(Reduce{ReduceFn::max, dims}, {x})[0];
        std::vector<double> sum(static_cast<std::size_t>(sums.size())), max(sum.size(), -1e9);
        auto kept = [&](std::int64_t i) {
            auto at = index_of(shape, i);
            for (auto d = dims.rbegin(); d != dims.rend(); ++d) at.erase(at.begin() + *d);
            return static_cast<std::size_t>(offset_of(sums.meta().shape, at));
        };
        for (std::int64_t i = 0; i < x.size(); ++i)
            sum[kept(i)] += x(i), max[kept(i)] = std::max(max[kept(i)], x(i));
        for (std::int64_t i = 0; i < sums.size(); ++i) near(sums, i, sum[static_cast<std::size_t>(i)]);
        for (std::int64_t i = 0; i < sums.size(); ++i) REQUIRE(most(i) == max[static_cast<std::size_t>(i)]);
        auto back = run_kernel(Expand{dims}, {sums, x})[0];
        for (std::int64_t i = 0; i < x.size(); ++i)
            REQUIRE(back(i) == sums(static_cast<std::int64_t>(kept(i))));
    }
    auto nan = x.copy();
    nan.set(7, std::nan(""));
    CHECK(std::isnan(run_kernel(Reduce{ReduceFn::max, {0, 1, 2, 3, 4}}, {nan})[0](0)));
    CHECK(run_kernel(Reduce{ReduceFn::sum, {0}}, {f64s({0, 3}, 1)})[0](2) == 0);
}

TEST_CASE("views put every element where it belongs") {
    auto x = f64s({4, 3, 70, 5}, 4);
    for (std::vector<int> order :
         {std::vector<int>{0, 1, 2, 3}, {0, 2, 1, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {2, 3, 0, 1}}) {
        auto y = run_kernel(Transpose{order}, {x})[0];
        for (std::int64_t i = 0; i < y.size(); ++i) {
            auto at = index_of(y.meta().shape, i), from = at;
            for (std::size_t d = 0; d < 4; ++d) from[static_cast<std::size_t>(order[d])] = at[d];
            REQUIRE(y(i) == x(offset_of(x.meta().shape, from)));
        }
    }
    auto part = run_kernel(Slice{2, 11, 30}, {x})[0];
    auto back = run_kernel(Pad{2, 11, 29}, {part})[0];
    for (std::int64_t i = 0; i < x.size(); ++i) {
        auto at = index_of(x.meta().shape, i);
        bool inside = at[2] >= 11 && at[2] < 41;
        REQUIRE(back(i) == (inside ? x(i) : 0));
    }
    std::vector<Numbers> parts{run_kernel(Slice{1, 0, 1}, {x})[0], run_kernel(Slice{1, 1, 2}, {x})[0]};
    CHECK(same_bits(run_kernel(Concat{1}, parts)[0], x));
}

TEST_CASE("norms and their gradients") {
    std::int64_t rows = 20, n = 37;
    auto x = f64s({rows, n}, 1), r = f64s({rows, n}, 2), gain = f64s({n}, 3), bias = f64s({n}, 4),
         dy = f64s({rows, n}, 5);
    auto layer = run_kernel(LayerNorm{1e-5, true}, {x, r, gain, bias});
    auto rms = run_kernel(RmsNorm{1e-6, true}, {x, r, gain});
    auto dlayer = run_kernel(LayerNormGradient{true}, {dy, layer[3], gain, layer[1], layer[2], r});
    auto drms = run_kernel(RmsNormGradient{true}, {dy, rms[2], gain, rms[1], r});
    std::vector<double> dgain(static_cast<std::size_t>(n)), dbias(dgain), rms_dgain(dgain);
    for (std::int64_t i = 0; i < rows; ++i) {
        double mean = 0, square = 0, var = 0;
        auto v = [&](std::int64_t j) { return x(i * n + j) + r(i * n + j); };
        for (std::int64_t j = 0; j < n; ++j) mean += v(j) / n, square += v(j) * v(j) / n;
        for (std::int64_t j = 0; j < n; ++j) var += (v(j) - mean) * (v(j) - mean) / n;
        double rstd = 1 / std::sqrt(var + 1e-5), rms_rstd = 1 / std::sqrt(square + 1e-6);
        near(layer[1], i, mean), near(layer[2], i, rstd), near(rms[1], i, rms_rstd);
        double g = 0, gx = 0, rms_gx = 0;
        for (std::int64_t j = 0; j < n; ++j) {
            double d = dy(i * n + j) * gain(j);
            g += d / n, gx += d * (v(j) - mean) * rstd / n, rms_gx += d * v(j) * rms_rstd / n;
        }
        for (std::int64_t j = 0; j < n; ++j) {
            auto at = i * n + j;
            double xhat = (v(j) - mean) * rstd, rms_xhat = v(j) * rms_rstd, d = dy(at) * gain(j);
            near(layer[3], at, v(j)), near(layer[0], at, xhat * gain(j) + bias(j)),
                near(rms[0], at, rms_xhat * gain(j));
            near(dlayer[0], at, rstd * (d - g - xhat * gx) + r(at));
            near(drms[0], at, rms_rstd * (d - rms_xhat * rms_gx) + r(at));
            auto k = static_cast<std::size_t>(j);
            dgain[k] += dy(at) * xhat, dbias[k] += dy(at), rms_dgain[k] += dy(at) * rms_xhat;
        }
    }
    for (std::int64_t j = 0; j < n; ++j) {
        auto k = static_cast<std::size_t>(j);
        near(dlayer[1], j, dgain[k]), near(dlayer[2], j, dbias[k]), near(drms[1], j, rms_dgain[k]);
    }
}

TEST_CASE("softmax and the loss") {
    std::int64_t rows = 9, n = 41;
    auto x = f64s({rows, n}, 1, 9), dy = f64s({rows, n}, 2), dnll = f64s({rows}, 3);
    auto targets = integers({rows}, -1, n);
    auto y = run_kernel(Softmax{}, {x})[0], dx = run_kernel(SoftmaxGradient{}, {y, dy})[0];
    auto loss = run_kernel(CrossEntropy{}, {x, targets});
    auto dlogits = run_kernel(CrossEntropyGradient{}, {x, targets, loss[1], dnll})[0];
    for (std::int64_t i = 0; i < rows; ++i) {
        double sum = 0, dot = 0;
        for (std::int64_t j = 0; j < n; ++j) sum += std::exp(x(i * n + j));
        for (std::int64_t j = 0; j < n; ++j) dot += std::exp(x(i * n + j)) / sum * dy(i * n + j);
        auto target = static_cast<std::int64_t>(targets(i));
        near(loss[1], i, std::log(sum));
        near(loss[0], i, target < 0 ? 0 : std::log(sum) - x(i * n + target));
        for (std::int64_t j = 0; j < n; ++j) {
            double p = std::exp(x(i * n + j)) / sum;
            near(y, i * n + j, p), near(dx, i * n + j, p * (dy(i * n + j) - dot));
            near(dlogits, i * n + j, target < 0 ? 0 : (p - (j == target)) * dnll(i));
        }
    }
}

TEST_CASE("a block of a table, of an index and of a dropped tensor knows where it lies") {
    auto tokens = integers({60}, 0, 30);
    auto table = f64s({30, 7}, 1), dy = f64s({60, 7}, 2);
    auto whole = run_kernel(Embedding{}, {tokens, table})[0],
         sums = run_kernel(EmbeddingGradient{}, {tokens, dy, table})[0];
    for (std::int64_t i = 0; i < whole.size(); ++i)
        REQUIRE(whole(i) == table(static_cast<std::int64_t>(tokens(i / 7)) * 7 + i % 7));
    std::vector<double> want(210);
    for (std::int64_t i = 0; i < 60 * 7; ++i)
        want[static_cast<std::size_t>(tokens(i / 7) * 7 + i % 7)] += dy(i);
    for (std::int64_t i = 0; i < 210; ++i)
        REQUIRE(sums(i) == want[static_cast<std::size_t>(i)]);  // in token order

    auto part = run_kernel(Slice{0, 10, 15}, {table})[0];
    Placement block{{10, 0}, {30, 7}};
    How how;
    how.in_blocks = {{}, block};
    auto picked = run_kernel(Embedding{}, {tokens, part}, how)[0];
    for (std::int64_t i = 0; i < whole.size(); ++i) {
        bool here = tokens(i / 7) >= 10 && tokens(i / 7) < 25;
        REQUIRE(picked(i) == (here ? whole(i) : 0));
    }
    how.in_blocks = {};
    how.out_blocks = {block};
    auto rows = run_kernel(EmbeddingGradient{}, {tokens, dy, part}, how)[0];
    CHECK(same_bits(rows, run_kernel(Slice{0, 10, 15}, {sums})[0]));

    how.out_blocks = {{{5, 2}, {9, 9}}};
    CHECK(run_kernel(Iota{1, i32, {3, 4}}, {}, how)[0](6) == 4);

    auto x = f64s({6, 5, 11}, 3);
    auto key = integers({2}, 40, 1);
    key.set(1, 9);
    auto dropped = run_kernel(Dropout{0.4, 123}, {x, key})[0];
    Random random{40, 123, 9};
    for (std::int64_t i = 0; i < x.size(); ++i)
        near(dropped, i, random.uniform(static_cast<std::uint64_t>(i)) < 0.4f ? 0 : x(i) / 0.6);
    for (int dim : {0, 1, 2}) {
        Slice cut{dim, 1, 3};
        how.out_blocks = {{{0, 0, 0}, {6, 5, 11}}};
        how.out_blocks[0].origin[dim] = 1;
        auto got = run_kernel(Dropout{0.4, 123}, {run_kernel(cut, {x})[0], key}, how)[0];
        CHECK(same_bits(got, run_kernel(cut, {dropped})[0]));
    }
}

TEST_CASE("rope and adamw") {
    auto x = f64s({2, 3, 2, 6}, 1), table = f64s({3, 3, 2}, 2);
    auto y = run_kernel(Rope{}, {x, table})[0], back = run_kernel(Rope{true}, {x, table})[0];
    for (std::int64_t i = 0; i < x.size(); ++i) {
        std::int64_t j = i % 6, s = i / 12 % 3, pair = j % 3;
        double c = table((s * 3 + pair) * 2), sine = table((s * 3 + pair) * 2 + 1);
        double other = j < 3 ? -x(i + 3) : x(i - 3);
        near(y, i, x(i) * c + other * sine), near(back, i, x(i) * c - other * sine);
    }

    auto angles = run_kernel(RopeTable{12, 12, 100}, {})[0];
    for (std::int64_t i = 0; i < angles.size(); i += 2) {
        double angle = static_cast<double>(i / 12) * std::pow(100.0, -static_cast<double>(i / 2 % 6) / 6);
        REQUIRE(angles(i) == Approx(std::cos(angle)).margin(1e-6));
        REQUIRE(angles(i + 1) == Approx(std::sin(angle)).margin(1e-6));
    }

    auto p = f64s({50}, 1), g = f64s({50}, 2), m = f64s({50}, 3), v = positive(f64s({50}, 4)),
         rate = f64s({}, 5);
    auto scale = f64s({}, 6);
    AdamWUpdate op{0.9, 0.95, 1e-8, 0.1, true, true};
    auto out = run_kernel(op, {p, g, m, v, rate, integers({}, 3, 1), scale, integers({}, 1, 1, u8)});
    auto kept = run_kernel(op, {p, g, m, v, rate, integers({}, 3, 1), scale, integers({}, 0, 1, u8)});
    for (std::int64_t i = 0; i < 50; ++i) {
        double gs = g(i) * scale(0), mi = 0.9 * m(i) + 0.1 * gs, vi = 0.95 * v(i) + 0.05 * gs * gs;
        double step =
            mi / (1 - std::pow(0.9, 3)) / (std::sqrt(vi / (1 - std::pow(0.95, 3))) + 1e-8) + 0.1 * p(i);
        near(out[0], i, p(i) - rate(0) * step), near(out[1], i, mi), near(out[2], i, vi);
    }
    CHECK((same_bits(kept[0], p) && same_bits(kept[1], m) && same_bits(kept[2], v)));
}

TEST_CASE("the largest element, and squares as integers") {
    for (auto t : {f32, bf16, f64}) {
        Numbers g(t, {40'000}, 5, 3);
        g.set(30'000, -3.5);
        auto m = run_kernel(MaxAbsolute{}, {g})[0];
        REQUIRE(m(0) == 3.5);
        // The exponent of 3.5 is 2.
        double hi = 0, lo = 0;
        for (std::int64_t i = 0; i < g.size(); ++i) {
            double v = g(i) / 4 * (g(i) / 4) * 1024, whole = std::nearbyint(v);
            hi += whole, lo += std::nearbyint((v - whole) * 1024);
        }
        auto sums = run_kernel(Squares{10}, {g, m})[0];
        CHECK(sums(0) == hi);
        CHECK(sums(1) == lo);
        near(run_kernel(NormOfSquares{10}, {sums, Numbers(m)})[0], 0,
             t == f64 ? 4 * std::sqrt((hi + lo / 1024) / 1024)
                      : static_cast<float>(4 * std::sqrt((hi + lo / 1024) / 1024)));

        for (std::int64_t place : {0, 20'000, 39'999}) {
            auto nan = g.copy();
            nan.set(place, std::nan(""));
            CHECK(std::isnan(run_kernel(MaxAbsolute{}, {nan})[0](0)));
        }
        for (double bad : {0.0, std::nan(""), HUGE_VAL}) {
            m.set(0, bad);
            auto none = run_kernel(Squares{10}, {g, m})[0];
            CHECK((none(0) == 0 && none(1) == 0));
            CHECK(same_bits(run_kernel(NormOfSquares{10}, {sums, m})[0], m));
        }
        Numbers zeros(t, {700}, 1, 0);
        zeros.set(3, -0.0);
        CHECK(run_kernel(MaxAbsolute{}, {zeros})[0](0) == 0);
        CHECK(!std::signbit(run_kernel(MaxAbsolute{}, {zeros})[0](0)));
    }
}

TEST_CASE("a fold adds, or takes the greatest, where NaN wins") {
    auto a = f64s({3}, 1), b = f64s({3}, 2), c = f64s({3}, 3);
    auto sum = run_kernel(Fold{}, {a, b, c})[0];
    for (std::int64_t i = 0; i < 3; ++i) CHECK(sum(i) == a(i) + b(i) + c(i));
    b.set(1, std::nan(""));
    auto most = run_kernel(Fold{Combine::max}, {a, b, c})[0];
    CHECK(most(0) == std::max({a(0), b(0), c(0)}));
    CHECK(std::isnan(most(1)));
    // Beyond what a double holds.
    Numbers big({i64, {2}}), one({i64, {2}});
    auto word = [](Numbers const& x, int i) -> std::int64_t& {
        return reinterpret_cast<std::int64_t*>(x.data())[i];
    };
    word(big, 0) = (1LL << 62) + 1, word(one, 0) = 1LL << 61;
    word(big, 1) = -5, word(one, 1) = 7;
    auto total = run_kernel(Fold{Combine::integer_sum}, {big, one})[0];
    CHECK(word(total, 0) == (1LL << 62) + (1LL << 61) + 1);
    CHECK(word(total, 1) == 2);
}

TEST_CASE("bad calls say what is wrong") {
    auto table = f64s({5, 3}, 1);
    CHECK_THROWS_WITH(run_kernel(Embedding{}, {integers({4}, 5, 1), table}),
                      ContainsSubstring("embedding: token 5 lies outside the table of 5 rows"));
    CHECK_THROWS_WITH(run_kernel(EmbeddingGradient{}, {integers({4}, -1, 1), f64s({4, 3}, 1), table}),
                      ContainsSubstring("token -1 lies outside the table of 5 rows"));
    CHECK_THROWS_WITH(run_kernel(CrossEntropy{}, {table, integers({5}, 3, 1)}), ContainsSubstring("token 3"));

    // A dtype that the op's own check would have stopped.
    AnyOp op = Unary{UnaryFn::exp};
    auto x = integers({3}, 0, 9);
    Buffer buffer{x.data(), x.meta(), {}};
    CHECK_THROWS_WITH(
        kernel_row(op, cpu::best_isa()).run({&op, {&buffer, 1}, {&buffer, 1}, nullptr, 0, nullptr}),
        ContainsSubstring("unary(fn=exp)") && ContainsSubstring("i32"));
}
