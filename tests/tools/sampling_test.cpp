#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/sampling.hpp"

#include "catch.hpp"
#include "plait/core/check.hpp"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

using namespace plait;
using tools::sample;
using tools::Sampling;

namespace {

using Logits = std::vector<float>;

/// How often each token comes in `draws`.
std::vector<double> shares(Logits const& logits, Sampling const& how, int draws = 40000,
                           std::uint64_t seed = 5) {
    std::vector<double> count(logits.size());
    for (int i = 0; i < draws; ++i) {
        auto u = tools::uniform_of(seed, 0, static_cast<std::uint64_t>(i));
        count[static_cast<std::size_t>(sample(logits, how, u))] += 1.0 / draws;
    }
    return count;
}

std::vector<double> softmax(Logits const& logits, double temperature) {
    std::vector<double> p;
    for (float x : logits) p.push_back(std::exp(x / temperature));
    auto sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (auto& x : p) x /= sum;
    return p;
}

double largest_difference(std::vector<double> const& a, std::vector<double> const& b) {
    double far = 0;
    for (std::size_t i = 0; i < a.size(); ++i) far = std::max(far, std::abs(a[i] - b[i]));
    return far;
}

Logits const logits{0.5f, 2, -1, 1.5f, 0, 1.75f, -3};  // by rank: 1 5 3 0 4 2 6
constexpr double near = 0.008;                         // over three standard deviations of 40,000 draws

}  // namespace

TEST_CASE("tokens come as often as softmax says") {
    for (double t : {0.5, 1.0, 2.0}) {
        auto p = softmax(logits, t);
        CHECK(largest_difference(shares(logits, {t, 0, 1}), p) < near);
        CHECK(largest_difference(shares(logits, {t * 1.5, 0, 1}), p) > near);
    }
}

TEST_CASE("temperature 0 and top-k 1 take the likeliest, the first of equal ones") {
    for (double u : {0.0, 0.5, 0.999999}) {
        CHECK(sample(logits, {0, 0, 1}, u) == 1);
        CHECK(sample(logits, {0.8, 1, 1}, u) == 1);
        CHECK(sample(Logits{1, 3, 3, 2}, {0, 0, 1}, u) == 1);
        CHECK(sample(Logits{1, 3, 3, 2}, {5, 1, 1}, u) == 1);
        CHECK(sample(logits, {1e-300, 0, 1}, u) == 1);
    }
}

TEST_CASE("top-k draws from the k likeliest as softmax over them says") {
    auto p = softmax(logits, 1);
    double held = p[1] + p[5] + p[3];
    auto got = shares(logits, {1, 3, 1});
    CHECK(largest_difference(got, {0, p[1] / held, 0, p[3] / held, 0, p[5] / held, 0}) < near);
    CHECK(got[0] + got[2] + got[4] + got[6] == 0);
    for (std::int64_t k : {0, 7, 8, 1000}) CHECK(shares(logits, {1, k, 1}) == shares(logits, {1, 0, 1}));
    // Of equal ones at the edge the first stay.
    CHECK(shares(Logits{1, 1, 1, 1}, {1, 2, 1})[2] == 0);
}

TEST_CASE("top-p draws from the fewest of the likeliest that hold it") {
    auto p = softmax(logits, 1);
    // The two likeliest hold `two`: a little more asks for a third.
    double two = p[1] + p[5];
    auto exactly = shares(logits, {1, 0, two - 1e-9}), more = shares(logits, {1, 0, two + 1e-9});
    CHECK(largest_difference(exactly, {0, p[1] / two, 0, 0, 0, p[5] / two, 0}) < near);
    CHECK(exactly[3] == 0);
    CHECK(more[3] > 0.1);
    CHECK(more[0] == 0);
    // However little is asked for, the likeliest stays; all of it keeps everybody.
    CHECK(shares(logits, {1, 0, 1e-12})[1] == Approx(1));
    CHECK(shares(logits, {1, 0, 1})[6] > 0);
    CHECK(shares(logits, {1, 0, 1 - 1e-12}).size() == 7);
    // After top-k, of what that left; after the temperature.
    CHECK(shares(logits, {1, 2, 0.5})[1] == Approx(1));
    CHECK(shares(logits, {0.1, 0, 0.9})[1] == Approx(1));
    CHECK(shares(logits, {10, 0, 0.9})[4] > 0);
}

TEST_CASE("the ends of the uniform number and of the vocabulary are drawn from") {
    double const last = std::nextafter(1.0, 0.0);
    CHECK(sample(Logits{0, 0}, {1, 0, 1}, 0) == 0);
    CHECK(sample(Logits{0, 0}, {1, 0, 1}, last) == 1);
    CHECK(sample(Logits{7}, {1, 5, 0.5}, last) == 0);
    CHECK(sample(Logits{1e30f, -1e30f}, {1, 0, 1}, last) == 0);
    CHECK(sample(Logits(4000, 0.25f), {1, 0, 0.5}, 0.9999) == 1999);
}

TEST_CASE("logits that are not finite are an error") {
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
        for (double t : {0.0, 1.0})
            CHECK_THROWS_WITH(sample(Logits{1, bad, 2}, {t, 0, 1}, 0.5), ContainsSubstring("not finite"));
    CHECK_THROWS_AS(sample(Logits{}, {}, 0.5), Error);
}

TEST_CASE("the random numbers of sequences and seeds are their own") {
    auto mean_product = [](auto f, auto g) {
        double sum = 0;
        for (std::uint64_t i = 0; i < 20000; ++i) sum += (f(i) - 0.5) * (g(i) - 0.5);
        return sum / 20000;
    };
    auto of = [](std::uint64_t seed, std::uint64_t sequence) {
        return [=](std::uint64_t i) { return tools::uniform_of(seed, sequence, i); };
    };
    CHECK(mean_product(of(1, 0), of(1, 0)) == Approx(1.0 / 12).epsilon(0.03));
    CHECK(std::abs(mean_product(of(1, 0), of(1, 1))) < 0.003);
    CHECK(std::abs(mean_product(of(1, 0), of(2, 0))) < 0.003);
    CHECK(std::abs(mean_product(of(1, 0), [](std::uint64_t i) { return tools::uniform_of(1, 0, i + 1); })) <
          0.003);
    CHECK(tools::uniform_of(1, 2, 3) == tools::uniform_of(1, 2, 3));
}

#endif
