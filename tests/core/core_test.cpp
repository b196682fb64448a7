#include "catch.hpp"
#include "plait/core/array.hpp"
#include "plait/core/fields.hpp"
#include "plait/core/random.hpp"

#include <cmath>
#include <limits>
#include <set>

using namespace plait;

TEST_CASE("bf16 rounds to nearest, ties to even") {
    CHECK(static_cast<float>(Bf16(1.0f)) == 1.0f);
    CHECK(Bf16(std::bit_cast<float>(0x3f808000u)).bits == 0x3f80);  // a tie, down to even
    CHECK(Bf16(std::bit_cast<float>(0x3f818000u)).bits == 0x3f82);  // a tie, up to even
    CHECK(Bf16(std::bit_cast<float>(0x3f808001u)).bits == 0x3f81);
    CHECK(std::isinf(static_cast<float>(Bf16(std::numeric_limits<float>::max()))));
    CHECK(std::isnan(static_cast<float>(Bf16(std::bit_cast<float>(0x7f800001u)))));
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        float x = std::bit_cast<float>(bits << 16);
        if (!std::isnan(x)) CHECK(Bf16(x).bits == bits);
    }
}

TEST_CASE("dtypes by name") {
    for (auto t : {f32, bf16, f64, i32, i64, u8}) CHECK(parse_dtype(name_of(t)) == t);
    CHECK_THROWS_WITH(parse_dtype("f23"),
                      ContainsSubstring("unknown dtype 'f23'") && ContainsSubstring("bf16"));
    CHECK(bytes_of(bf16, 3) == 6);
}

TEST_CASE("shapes") {
    Shape s{2, 3, 4};
    CHECK(s.elements() == 24);
    CHECK(s[-1] == 4);
    CHECK(Shape{}.elements() == 1);
    CHECK(to_string(Meta{bf16, s}) == "bf16[2, 3, 4]");
    CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
    CHECK_THROWS_AS(Shape{-1}, ShapeError);
}

TEST_CASE("Philox gives the published words") {
    // Known answers of the Random123 distribution.
    CHECK(philox({0, 0, 0, 0}, {0, 0}) ==
          std::array<std::uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
    CHECK(philox({0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}, {0xffffffffu, 0xffffffffu}) ==
          std::array<std::uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
    CHECK(philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}) ==
          std::array<std::uint32_t, 4>{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("random numbers have the moments they should") {
    Random r{3, hash_name("x"), 5};
    double mean = 0, square = 0, uniform = 0;
    int const n = 100000;
    for (std::uint64_t i = 0; i < n; ++i) {
        double z = r.normal(i);
        mean += z / n, square += z * z / n, uniform += r.uniform(i) / n;
    }
    CHECK(std::abs(mean) < 0.015);
    CHECK(std::abs(square - 1) < 0.02);
    CHECK(std::abs(uniform - 0.5) < 0.005);
    std::set<std::uint32_t> words;
    for (std::uint64_t seed : {1, 2})
        for (std::uint64_t site : {1, 2})
            for (std::uint32_t step : {1u, 2u})
                for (std::uint64_t i = 0; i < 100; ++i) words.insert(Random{seed, site, step}.word(i));
    CHECK(words.size() == 800);
}

namespace {
struct Inner {
    float rate = 1;
    using fields = Fields<&Inner::rate>;
};
struct Outer {
    int first = 1;
    Inner second;
    using fields = Fields<&Outer::first, &Outer::second>;
};
}  // namespace

TEST_CASE("fields know their names") {
    Outer o;
    std::string names;
    for_each_field(o, [&](std::string_view name, auto& member) {
        names += std::string(name) + " ";
        if constexpr (std::is_same_v<std::decay_t<decltype(member)>, int>) member = 7;
    });
    CHECK(names == "first second ");
    CHECK(o.first == 7);
    CHECK(member_name<&Inner::rate>() == "rate");
}

TEST_CASE("arrays check what they are asked for") {
    Array a(Shape{2, 2}, std::vector<float>{1, 2, 3, 4});
    CHECK(a.at(3) == 4);
    CHECK_THROWS_WITH(a.values<double>(), ContainsSubstring("holds f32, not f64"));
    CHECK_THROWS_WITH(a.item(), ContainsSubstring("f32[2, 2]"));
    CHECK_THROWS_WITH(Array(Shape{3}, std::vector<float>{1}), ContainsSubstring("do not fill"));
}
