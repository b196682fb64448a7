#include "plait/optim/curves.hpp"

#include "catch.hpp"

using namespace plait;

TEST_CASE("linear: warm-up, peak, a line to the floor") {
    auto c = optim::linear(1.0, 10, 110, 0.1);
    CHECK(c(1) == Approx(0.1));
    CHECK(c(10) == Approx(1.0));
    CHECK(c(35) == Approx(0.775));
    CHECK(c(110) == Approx(0.1));
    CHECK(c(500) == Approx(0.1));
    CHECK_THROWS_AS(optim::linear(1, 20, 10), UsageError);
}

TEST_CASE("constant: warm-up, then the peak for ever") {
    auto c = optim::constant(2.0, 4);
    CHECK(c(1) == Approx(0.5));
    for (int step : {4, 5, 1000000}) CHECK(c(step) == 2.0);
    CHECK(optim::constant(2.0, 0)(1) == 2.0);
}

TEST_CASE("wsd: warm-up, stable, decay") {
    auto c = optim::wsd(1.0, 10, 100, 20, 0.2);
    CHECK(c(5) == Approx(0.5));
    for (int step : {10, 11, 50, 80}) CHECK(c(step) == 1.0);
    CHECK(c(81) == Approx(0.96));
    CHECK(c(90) == Approx(0.6));
    CHECK(c(100) == Approx(0.2));
    CHECK(c(101) == Approx(0.2));
    CHECK(optim::wsd(1.0, 0, 10, 10)(5) == Approx(0.5));
    CHECK(optim::wsd(1.0, 0, 10, 0)(10) == 1.0);
    CHECK_THROWS_AS(optim::wsd(1, 6, 10, 5), UsageError);
}
