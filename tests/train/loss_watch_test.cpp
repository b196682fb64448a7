#include "plait/train/loss_watch.hpp"

#include "catch.hpp"
#include "plait/core/check.hpp"

#include <cmath>
#include <limits>

using namespace plait;

TEST_CASE("a loss is a spike when it is so many deviations above the running mean") {
    LossWatch watch(4);
    CHECK(watch.limit() == std::numeric_limits<float>::max());
    // 2 and 4 in turn: mean 3, deviation 1.
    for (int i = 0; i < 1000; ++i) watch.add(i % 2 ? 4.0f : 2.0f);
    CHECK(watch.limit() == Approx(7).epsilon(0.02));
    // It follows: the last 50 steps or so count.
    for (int i = 0; i < 1000; ++i) watch.add(i % 2 ? 0.5f : 1.5f);
    CHECK(watch.limit() == Approx(3).epsilon(0.02));
    // Equal losses: a deviation is 1 % at least.
    for (int i = 0; i < 5000; ++i) watch.add(1.0f);
    CHECK(watch.limit() == Approx(1.04));
}

TEST_CASE("nothing is a spike in the first steps, nor with 0 deviations") {
    LossWatch watch(1), off;
    for (int i = 1; i <= LossWatch::first_steps; ++i) {
        CHECK(watch.limit() == std::numeric_limits<float>::max());
        watch.add(2), off.add(2);
    }
    CHECK(watch.limit() == Approx(2.02));
    CHECK(off.limit() == std::numeric_limits<float>::max());
}

TEST_CASE("of the first steps the mean and deviation are the plain ones") {
    LossWatch watch(1);
    double sum = 0, squares = 0;
    for (int i = 0; i < 40; ++i) {
        auto const x = static_cast<float>(5 + std::sin(i));
        watch.add(x);
        sum += static_cast<double>(x), squares += static_cast<double>(x) * static_cast<double>(x);
    }
    auto const mean = sum / 40;
    CHECK(watch.limit() == Approx(mean + std::sqrt(squares / 40 - mean * mean)));
}

TEST_CASE("what a watch has seen reads back exactly") {
    LossWatch a(3), b(3);
    for (int i = 0; i < 33; ++i) a.add(1 + 0.1f * static_cast<float>(i % 7));
    b.set(a.text());
    CHECK(b.text() == a.text());
    for (int i = 0; i < 9; ++i) {
        a.add(1.3f), b.add(1.3f);
        CHECK(a.limit() == b.limit());
    }
    CHECK_THROWS_AS(b.set("none"), Error);
}
