#include "plait/cpu/simd_math.hpp"

#include "catch.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

using namespace plait;
using namespace plait::cpu::base;

namespace {

float apply(Floats (*f)(Floats), float x) { return f(splat<Floats>(x))[0]; }

/// Distance from the exact value in units of the last place of a float near it, at least of one near `least`.
double ulps(float got, double exact, double least) {
    if (std::isnan(exact)) return std::isnan(got) ? 0 : 1e9;
    if (std::isinf(exact) || std::abs(exact) > std::numeric_limits<float>::max())
        return got == static_cast<float>(exact) ? 0 : 1e9;
    int e = std::max(std::ilogb(std::max(std::abs(exact), least)), -126);
    return std::abs(static_cast<double>(got) - exact) / std::ldexp(1.0, e - 23);
}

struct Row {
    char const* name;
    Floats (*f)(Floats);
    double (*exact)(double);
    double bound;
    double least = 0x1p-126;
};

double exact_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
constexpr float inf = std::numeric_limits<float>::infinity();

Row const rows[] = {
    {"exp", [](Floats x) { return exp(x); }, [](double x) { return std::exp(x); }, 1.5},
    {"log", [](Floats x) { return log(x); }, [](double x) { return std::log(x); }, 1.5},
    {"tanh", [](Floats x) { return tanh(x); }, [](double x) { return std::tanh(x); }, 2},
    {"sqrt", [](Floats x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }, 0.51},
    {"sigmoid", [](Floats x) { return sigmoid(x); }, exact_sigmoid, 3},
    {"silu", [](Floats x) { return silu(x); }, [](double x) { return x * exact_sigmoid(x); }, 4, 0x1p-118},
};

}  // namespace

TEST_CASE("functions of vectors agree with the C library") {
    for (auto const& row : rows) {
        INFO(row.name);
        double worst = 0;
        float at = 0;
        for (std::uint64_t u = 0; u < 0x100000000u;
             u += 4093) {  // every exponent, both signs, NaN and infinities
            float x = std::bit_cast<float>(static_cast<std::uint32_t>(u));
            double off = ulps(apply(row.f, x), row.exact(x), row.least);
            if (off > worst) worst = off, at = x;
        }
        for (double x = -110; x < 110; x += 0.0007) {
            double off =
                ulps(apply(row.f, static_cast<float>(x)), row.exact(static_cast<float>(x)), row.least);
            if (off > worst) worst = off, at = static_cast<float>(x);
        }
        for (float x : {0.0f, -0.0f, 1.0f, inf, -inf, std::numeric_limits<float>::quiet_NaN(),
                        std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max()}) {
            double off = ulps(apply(row.f, x), row.exact(x), row.least);
            if (off > worst) worst = off, at = x;
        }
        INFO("worst at " << at << ": " << worst << " ulp");
        CHECK(worst <= row.bound);
    }
}

TEST_CASE("gelu, silu and their derivatives") {
    for (double x = -12; x < 12; x += 0.001) {
        auto v = splat<Doubles>(x);
        double h = 1e-5;
        auto slope = [&](auto f) {
            return (f(splat<Doubles>(x + h))[0] - f(splat<Doubles>(x - h))[0]) / (2 * h);
        };
        REQUIRE(gelu_derivative(v)[0] == Approx(slope([](Doubles u) { return gelu(u); })).margin(1e-8));
        REQUIRE(silu_derivative(v)[0] == Approx(slope([](Doubles u) { return silu(u); })).margin(1e-8));
        double exact = 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        REQUIRE(gelu(v)[0] == Approx(exact).margin(1e-14));
        auto f = static_cast<float>(x);
        REQUIRE(apply([](Floats u) { return gelu(u); }, f) == Approx(exact).margin(1e-5).epsilon(1e-5));
        REQUIRE(apply([](Floats u) { return gelu_derivative(u); }, f) ==
                Approx(gelu_derivative(v)[0]).margin(1e-5));
    }
}

TEST_CASE("bf16 loads and stores are those of Bf16") {
    for (std::uint64_t u = 0; u < 0x100000000u; u += 257) {
        auto x = std::bit_cast<float>(static_cast<std::uint32_t>(u));
        Bf16 got[lanes<float>];
        store<float>(static_cast<Bf16*>(got), splat<Floats>(x));
        REQUIRE(got[lanes<float> - 1].bits == Bf16(x).bits);
        if (u & 0x7f800000 && !std::isnan(x))
            REQUIRE(load<float>(static_cast<Bf16 const*>(got))[0] == static_cast<float>(Bf16(x)));
    }
}

TEST_CASE("an element's bits depend neither on its place nor on its address") {
    std::vector<float> x(100), y(100), want(100);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i) * 1.7f) * 8;
    auto f = [](Floats v) { return gelu(v) + tanh(exp(v) * silu(v)); };
    for (std::size_t i = 0; i < x.size(); ++i) want[i] = f(splat<Floats>(x[i]))[0];
    for (int begin = 0; begin < 20; ++begin) {
        for (int n = 0; n < 70; ++n) {
            std::fill(y.begin(), y.end(), 77.0f);
            for_lanes<float>(n, [&](std::int64_t i, auto count) {
                store<float>(y.data() + begin + i, f(load<float>(x.data() + begin + i, count)), count);
            });
            for (int i = 0; i < 100; ++i)
                REQUIRE(y[static_cast<std::size_t>(i)] ==
                        (i >= begin && i < begin + n ? want[static_cast<std::size_t>(i)] : 77.0f));
        }
    }
}

TEST_CASE("a sum's bits do not depend on the address, and nothing past the end counts") {
    std::vector<float> x(400);
    for (int n = 0; n < 300; ++n) {
        float first = 0, top = 0;
        for (int begin = 0; begin < 17; ++begin) {
            std::fill(x.begin(), x.end(), inf);
            double exact = 0, greatest = -inf;
            for (int i = 0; i < n; ++i) {
                float v = std::sin(static_cast<float>(i) * 0.9f);
                x[static_cast<std::size_t>(begin + i)] = v;
                exact += v, greatest = std::max<double>(greatest, v);
            }
            auto at = [&](std::int64_t i, auto count) { return load<float>(x.data() + begin + i, count); };
            float sum = sum_lanes<float>(n, at), max = max_lanes<float>(n, at);
            if (begin == 0) first = sum, top = max;
            REQUIRE(sum == first);
            REQUIRE(max == top);
            REQUIRE(sum == Approx(exact).margin(1e-4));
            REQUIRE(max == static_cast<float>(greatest));
        }
    }
}
