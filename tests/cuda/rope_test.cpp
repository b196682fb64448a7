#include "plait/ops/attention.hpp"
#include "row_runs.hpp"

using namespace tests;

namespace {

/// As sines and cosines are: at most one unit in the last place of an f32 apart.
void same_angles(Numbers const& got, Numbers const& want) {
    REQUIRE(got.meta() == want.meta());
    for (std::int64_t i = 0; i < got.size(); ++i) {
        auto one = static_cast<float>(got(i)), other = static_cast<float>(want(i));
        INFO("element " << i << ": " << one << ", want " << other);
        REQUIRE(one <= std::nextafter(other, 2.0f));
        REQUIRE(one >= std::nextafter(other, -2.0f));
    }
}

}  // namespace

TEST_CASE("tables of cosines and sines") {
    std::pair<std::int64_t, std::int64_t> const sizes[] = {{1, 2}, {70, 14}, {9, 64}, {3, 1030}};
    for (auto [length, dim] : sizes) {
        CAPTURE(length, dim);
        plait::RopeTable op{length, dim, 500000};
        same_angles(run_row(op, {})[0], run_kernel(op, {})[0]);
        auto positions = integers({2, length}, 0, 2147483647);
        positions.set(0, -3);
        plait::RopeAt at{dim, 1e4};
        same_angles(run_row(at, {positions})[0], run_kernel(at, {positions})[0]);
    }
}

TEST_CASE("an angle's cosine and sine are those of the library") {
    for (double x : {0.0, 1e-300, 0.78539816339744828, 1.5707963267948966, 3.1415926535897931, -2.0, 1e5,
                     1234567.891, 2147483647.0, -2147483648.0}) {
        auto got = gpu::cos_sin(x);
        INFO(x);
        REQUIRE(std::abs(got.cos - std::cos(x)) <= 1e-15);
        REQUIRE(std::abs(got.sin - std::sin(x)) <= 1e-15);
    }
}

TEMPLATE_TEST_CASE("heads are turned and turned back", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    Numbers x(type, {2, 5, 3, 14}, 1), of_sequence(plait::f32, {5, 7, 2}, 2),
        of_token(plait::f32, {2, 5, 7, 2}, 3);
    for (bool inverse : {false, true})
        for (auto const& table : {of_sequence, of_token})
            for (std::int64_t shift : {0, 1}) {
                How how{.in_place = plait::Alias{0, 0}, .shift = shift};
                plait::Rope op{inverse};
                same(run_row(op, {x, table}, how), run_kernel(op, {x, table}, how));
            }
}
