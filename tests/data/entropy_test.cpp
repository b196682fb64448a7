#include "plait/data/entropy.hpp"

#include "catch.hpp"
#include "plait/core/check.hpp"
#include "plait/core/random.hpp"

#include <cmath>
#include <string_view>
#include <vector>

using namespace plait;

namespace {
double entropy(std::string_view text, int order) {
    return conditional_entropy({reinterpret_cast<std::uint8_t const*>(text.data()), text.size()}, order);
}
}  // namespace

TEST_CASE("entropy of texts known by hand") {
    CHECK(entropy("aaaaaaaa", 1) == 0);
    CHECK(entropy("abababab", 1) == Approx(1));
    CHECK(entropy("abababab", 2) == 0);
    CHECK(entropy("aabaabaab", 3) == 0);
    // Pairs aa ab ba ab: after a comes a once and b twice, after b always a.
    auto h = -(1 * std::log2(1 / 3.0) + 2 * std::log2(2 / 3.0)) / 4;
    CHECK(entropy("aabab", 2) == Approx(h));
    CHECK(entropy("", 1) == 0);
    CHECK(entropy("a", 2) == 0);
    CHECK(entropy("ab", 3) == 0);
    CHECK_THROWS_AS(entropy("abc", 0), UsageError);
    CHECK_THROWS_AS(entropy("abc", 4), UsageError);
}

TEST_CASE("random bytes have eight bits, and a longer context never adds any") {
    std::vector<std::uint8_t> bytes(1 << 22);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(mix(i));
    auto h1 = conditional_entropy(bytes, 1), h2 = conditional_entropy(bytes, 2);
    CHECK(h1 == Approx(8).margin(1e-3));
    CHECK(h2 == Approx(8).margin(0.02));
    CHECK(h2 < h1);
    CHECK(conditional_entropy(bytes, 3) < h2);
    // All 256 values, but each pair differs by one.
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i);
    CHECK(conditional_entropy(bytes, 1) == Approx(8));
    CHECK(conditional_entropy(bytes, 2) == 0);
}
