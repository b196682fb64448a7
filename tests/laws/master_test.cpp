// Training without a copy of the weights in f32: rounding at random takes no side, and hangs on no layout.
#include "catch.hpp"
#include "laws/ranks.hpp"
#include "laws/reference.hpp"
#include "laws/sample_values.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

using namespace plait;
using namespace tests;

namespace {

Array key_of(std::int32_t seed, std::int32_t step) {
    return Array(Shape{2}, std::vector<std::int32_t>{seed, step});
}
Array scalar_of(float x) { return Array(Shape{}, std::vector<float>{x}); }

Array rounded(Array const& x, Array const& key, std::uint64_t site = 5) {
    return evaluate(Tensors{stochastic_round(Tensor(x), site, Tensor(key))}).at(0);
}

bool same_bits(Array const& a, Array const& b) {
    return a.meta() == b.meta() && std::memcmp(a.bytes().data(), b.bytes().data(), a.bytes().size()) == 0;
}

/// How far the mean of `rounds` roundings is from x, in deviations that the mean of fair ones has; the worst
/// of all x. round(x, i) is the i-th.
template <class Round>
double worst_bias(std::vector<float> const& x, int rounds, Round const& round) {
    std::vector<double> sum(x.size());
    for (int i = 0; i < rounds; ++i) {
        Array y = round(Array(Shape{static_cast<std::int64_t>(x.size())}, x), i);
        for (std::size_t k = 0; k < x.size(); ++k) sum[k] += y.at(static_cast<std::int64_t>(k));
    }
    double worst = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
        auto bits = std::bit_cast<std::uint32_t>(x[k]);
        auto low = bits & 0xffffu;
        double ulp = std::abs(static_cast<double>(std::bit_cast<float>((bits & 0xffff0000u) + 0x10000u)) -
                              static_cast<double>(std::bit_cast<float>(bits & 0xffff0000u)));
        double up = low / 65536.0, deviation = ulp * std::sqrt(up * (1 - up) / rounds);
        double off = std::abs(sum[k] / rounds - static_cast<double>(x[k]));
        worst = std::max(worst, deviation > 0 ? off / deviation : off > 0 ? 1e9 : 0);
    }
    return worst;
}

std::vector<float> some_numbers() {
    std::vector<float> x;
    for (std::uint64_t i = 0; i < 400; ++i) {
        auto scale = std::ldexp(1.0, static_cast<int>(i % 60) - 30);
        x.push_back(static_cast<float>(scale * (2 * Random{3}.uniform(i) - 1)));
    }
    for (float one : {1.0f, -2.5f, 0.0f, -0.0f}) x.push_back(one);  // bf16 has them
    return x;
}

}  // namespace

TEST_CASE("the mean of many roundings at random is the number, and that of roundings to nearest is not") {
    // 404 normal deviates lie within 5.
    int const rounds = 2000;
    auto const x = some_numbers();
    CHECK(worst_bias(x, rounds, [](Array const& a, int i) { return rounded(a, key_of(7, i)); }) < 5);
    // From site to site too, and from seed to seed.
    CHECK(worst_bias(x, rounds, [](Array const& a, int i) {
              return rounded(a, key_of(7, 1), static_cast<std::uint64_t>(i));
          }) < 5);
    CHECK(worst_bias(x, rounds, [](Array const& a, int i) { return rounded(a, key_of(i, 1)); }) < 5);
    CHECK(worst_bias(x, rounds, [](Array const& a, int) {
              return evaluate(Tensors{cast(Tensor(a), bf16)}).at(0);
          }) > 30);
}

TEST_CASE("rounding at random takes the word of each element's number") {
    auto const numbers = some_numbers();
    auto const n = static_cast<std::int64_t>(numbers.size());
    auto const x = Array(Shape{n}, numbers);
    auto const y = rounded(x, key_of(-9, 1000));
    Random const random{static_cast<std::uint32_t>(-9), 5, 1000};
    for (std::int64_t i = 0; i < n; ++i) {
        CAPTURE(i, x.at(i));
        auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x.at(i)));
        auto want = (bits + (random.word(static_cast<std::uint64_t>(i)) >> 16)) >> 16;
        CHECK(y.values<Bf16>()[static_cast<std::size_t>(i)].bits == want);
    }
    for (auto const& other :
         {rounded(x, key_of(-9, 1001)), rounded(x, key_of(-8, 1000)), rounded(x, key_of(-9, 1000), 6)})
        CHECK(!same_bits(other, y));

    constexpr float inf = std::numeric_limits<float>::infinity();
    auto const edges = rounded(Array(Shape{3}, std::vector<float>{inf, -inf, std::nanf("")}), key_of(1, 1));
    CHECK(edges.at(0) == inf);
    CHECK(edges.at(1) == -inf);
    CHECK(std::isnan(edges.at(2)));
}

TEST_CASE("an update of bf16 is that of f32, rounded at random") {
    Shape const shape{3, 700};
    auto random = [&](std::uint64_t site, double low, double high) {
        Array a({f32, shape});
        for (std::size_t i = 0; i < 2100; ++i)
            a.values<float>()[i] = static_cast<float>(low + (high - low) * Random{1, site}.uniform(i));
        return Tensor(a);
    };
    auto p = cast(random(1, -1, 1), bf16), g = random(2, -1, 1), m = random(3, -1, 1), v = random(4, 0.1, 1);
    auto key = Tensor(key_of(3, 4));
    auto rate = Tensor(scalar_of(0.01f)), step = Tensor(Array(Shape{}, std::vector<std::int32_t>{4})),
         scale = Tensor(scalar_of(0.5f));
    AdamWUpdate op{.decay = 0.1, .scaled = true};
    auto wide = apply(op, {cast(p, f32), g, m, v, rate, step, scale});
    op.stochastic = true, op.site = 11;
    auto narrow = apply(op, {p, g, m, v, rate, step, key, scale});
    auto got = evaluate({narrow[0], narrow[1], narrow[2], stochastic_round(wide[0], 11, key), wide[1],
                         wide[2], stochastic_round(wide[0], 12, key)});
    for (std::size_t i = 0; i < 3; ++i) CHECK(same_bits(got[i], got[i + 3]));
    CHECK(!same_bits(got[0], got[6]));

    // The definition too, where no step of it rounds: m / sqrt(v) is 1 or -1.
    AdamWUpdate exact{.beta1 = 0, .beta2 = 0, .eps = 0, .stochastic = true, .site = 11};
    auto signs = select(less(g, full_like(g, 0)), full_like(g, -0.5), full_like(g, 0.5));
    Tensors in{p, signs, m, v, rate, step, key};
    auto both = evaluate({apply(exact, in)[0], exact.define(in)[0], cast(p, bf16)});
    CHECK(same_bits(both[0], both[1]));
    CHECK(!same_bits(both[0], both[2]));
}

namespace {

Subject in_bf16_alone(Subject s) {
    s.name += ", weights in bf16", s.master = bf16, s.compute = bf16;
    return s;
}

}  // namespace

TEST_CASE("weights that are bf16 alone have the bits of one rank on every layout") {
    for (auto const& s : {in_bf16_alone(llama()), in_bf16_alone(gpt2())})
        for (auto const& a :
             {Arrangement{.data = 2, .zero = 1}, Arrangement{.data = 4, .micro = 2, .zero = 3},
              Arrangement{.replica = 2, .data = 2, .zero = 2}}) {
            INFO(text_of(s, a));
            CHECK(law_holds(s, a));
        }
}

TEST_CASE("weights that are bf16 alone have the bits of one rank where an axis divides them") {
    check_bits_of_one_rank(
        std::vector<Arrangement>{
            {.tensor = 2}, {.data = 2, .zero = 1, .tensor = 2}, {.data = 2, .zero = 3, .tensor = 2}},
        [](Arrangement const& a) {
            struct {
                Subject subject;
                Arrangement arrangement;
            } one{in_bf16_alone(llama()), a};
            return one;
        },
        true);
}

TEST_CASE("updates that take their block for the whole are noticed, and so is rounding to nearest") {
    auto const s = in_bf16_alone(llama());
    Arrangement const a{.data = 2, .zero = 1};
    Broken broken;
    broken.program = [](Program& p) {
        int seen = 0;
        for (auto& i : p.instructions)
            if (i.op.as<AdamWUpdate>())
                for (auto& y : i.out) seen += !y.block.logical.empty(), y.block = {};
        check(seen > 0, "no update knows its place");
    };
    CHECK(!law_holds(s, a, broken));

    auto nearest = s;
    nearest.master = f32;
    CHECK(outcomes(nearest, a)[0].loss != outcomes(s, a)[0].loss);
}
