#include "plait/ops/gradient_norm.hpp"
#include "catch.hpp"
#include "plait/autograd/gradients.hpp"
#include "plait/core/random.hpp"
#include "plait/cpu/backend.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/view.hpp"
#include "plait/train/compile.hpp"

#include <cmath>
#include <limits>

using namespace plait;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Random numbers whose magnitudes reach over `decades` powers of ten below `scale`.
Array random_array(Meta meta, std::uint64_t seed, double scale, double decades = 0) {
    Array a(meta);
    Random random{seed, 1, 2};
    for (std::int64_t i = 0; i < meta.elements(); ++i) {
        auto n = static_cast<std::uint64_t>(i);
        double x = scale * random.normal(n) * std::pow(10, -decades * Random{seed, 3, 4}.uniform(n));
        if (meta.dtype == f64) a.values<double>()[n] = x;
        if (meta.dtype == f32) a.values<float>()[n] = static_cast<float>(x);
        if (meta.dtype == bf16) a.values<Bf16>()[n] = Bf16(static_cast<float>(x));
    }
    return a;
}

/// Gradients of a small model: of several tiles, of odd sizes, a scalar.
std::vector<Array> some_gradients(DType matrix, DType vector, double scale, double decades) {
    return {random_array({matrix, {120, 350}}, 1, scale, decades),
            random_array({vector, {30}}, 2, scale, decades), random_array({vector, {}}, 3, scale),
            random_array({matrix, {6, 4, 10}}, 4, scale / 100, decades)};
}

Tensors tensors(std::vector<Array> const& arrays) { return {arrays.begin(), arrays.end()}; }

double plain_norm(std::vector<Array> const& gradients) {
    long double total = 0;
    for (auto const& g : gradients)
        for (std::int64_t i = 0; i < g.meta().elements(); ++i)
            total += static_cast<long double>(g.at(i)) * static_cast<long double>(g.at(i));
    return static_cast<double>(std::sqrt(total));
}

double norm_of(std::vector<Array> const& gradients) {
    return evaluate(gradient_norm(tensors(gradients))).item();
}

bool same_bits(Array const& a, Array const& b) {
    return a.meta() == b.meta() && std::memcmp(a.bytes().data(), b.bytes().data(), a.bytes().size()) == 0;
}

/// x in `count` equal blocks along `dim`, the last first where `backwards`.
Tensors blocks_of(Tensor const& x, int dim, std::int64_t count, bool backwards) {
    Tensors blocks;
    auto length = x.shape()[dim] / count;
    for (std::int64_t b = 0; b < count; ++b)
        blocks.push_back(slice(x, dim, (backwards ? count - 1 - b : b) * length, length));
    return blocks;
}

/// How many of the ways to cut input 0 of `op` give other bits than the whole, when the blocks' results are
/// combined as the rule says; `ways` counts them all.
int splits_that_differ(AnyOp const& op, Tensors const& in, int& ways) {
    Metas metas;
    for (auto const& x : in) metas.push_back(x.meta());
    auto rule = op.rule(metas);
    Tensors results{apply_one(op, in)};
    for (int dim = 0; dim < in[0].rank(); ++dim)
        for (std::int64_t count = 2; count <= std::min<std::int64_t>(in[0].shape()[dim], 60); ++count)
            for (bool backwards : {false, true}) {
                if (in[0].shape()[dim] % count) continue;
                Tensors parts;
                for (auto const& block : blocks_of(in[0], dim, count, backwards)) {
                    auto x = in;
                    x[0] = block;
                    parts.push_back(apply_one(op, x));
                }
                results.push_back(apply_one(Fold{rule.combine}, parts));
            }
    auto values = evaluate(results);
    int differ = 0;
    for (std::size_t i = 1; i < values.size(); ++i) differ += !same_bits(values[i], values[0]);
    ways += static_cast<int>(values.size()) - 1;
    return differ;
}

}  // namespace

TEST_CASE("blocks of a gradient, combined as the rule says, have the bits of the whole") {
    int ways = 0, control_ways = 0, control = 0;
    for (auto t : {f32, bf16, f64}) {
        auto g = tensors(some_gradients(t, t, 0.3, 6));
        for (auto const& x : {g[0], g[1], g[3]}) {
            auto most = apply_one(MaxAbsolute{}, {x});
            CHECK(splits_that_differ(MaxAbsolute{}, {x}, ways) == 0);
            for (int bits : {7, 31}) CHECK(splits_that_differ(Squares{bits}, {x, most}, ways) == 0);
            // The control: sums of floats.
            std::vector<int> dims;
            for (int d = 0; d < x.rank(); ++d) dims.push_back(d);
            auto wide = evaluate(cast(square(cast(x, f64)), f32));
            control += splits_that_differ(Reduce{ReduceFn::sum, dims}, {Tensor(wide)}, control_ways);
        }
    }
    CHECK(ways > 300);
    CHECK(control * 4 > control_ways);
}

TEST_CASE("the norm has the same bits in any division of the gradients") {
    auto arrays = some_gradients(bf16, f32, 0.02, 5);
    auto g = tensors(arrays);
    auto whole = evaluate(gradient_norm(g));
    for (std::int64_t count : {2, 3, 5, 6}) {
        Tensors divided;
        for (auto const& x : g) {
            int dim = x.rank() - 1;
            while (dim >= 0 && x.shape()[dim] % count) --dim;
            auto blocks = dim < 0 ? Tensors{x} : blocks_of(x, dim, count, true);
            divided.insert(divided.begin(), blocks.begin(), blocks.end());
        }
        CHECK(divided.size() > g.size());
        CHECK(same_bits(evaluate(gradient_norm(divided)), whole));
    }
    // An element that is off by its last bit but one is seen where it counts.
    arrays[2].values<float>()[0] *= 1.001f;
    CHECK(!same_bits(evaluate(gradient_norm(tensors(arrays))), whole));
}

TEST_CASE("the norm agrees with a plain sum, whatever the magnitudes") {
    for (double scale : {1.0, 1e-30, 1e30, 1e-4})
        for (double decades : {0.0, 3.0, 8.0}) {
            CAPTURE(scale, decades);
            for (auto [matrix, vector] : {std::pair{f32, f32}, {bf16, f32}, {bf16, bf16}}) {
                auto g = some_gradients(matrix, vector, scale, decades);
                CHECK(std::abs(norm_of(g) / plain_norm(g) - 1) < 1e-7);
            }
            auto g = some_gradients(f64, f64, scale, decades);
            CHECK(std::abs(norm_of(g) / plain_norm(g) - 1) < 1e-14);
        }
    // Where m^2 is neither a float nor a double, and where 2^-e is no double.
    for (double scale : {1e-150, 1e-300, 1e300}) {
        auto g = some_gradients(f64, f64, scale, 0);
        for (auto& a : g) CHECK(norm_of({a}) > 0);
        CHECK(std::abs(norm_of(g) / scale / norm_of(some_gradients(f64, f64, 1, 0)) - 1) < 1e-14);
    }
    CHECK(norm_of({Array(Shape{2}, std::vector<double>{3e-320, 4e-320})}) == Approx(5e-320).epsilon(1e-3));
    CHECK(norm_of({Array(Shape{2}, std::vector<float>{3e-44f, 4e-44f})}) == Approx(5e-44).epsilon(0.03));
    CHECK(norm_of({Array(Shape{2}, std::vector<float>{-3, 4})}) == 5);
}

TEST_CASE("what is zero or not finite shows in the norm") {
    auto g = some_gradients(f32, f32, 1, 0);
    CHECK(norm_of({Array(Meta{f32, {700}}), Array(Meta{bf16, {}})}) == 0);
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), static_cast<float>(infinity),
                      -static_cast<float>(infinity)})
        for (std::size_t k : {std::size_t{0}, std::size_t{2}}) {
            auto broken = g;
            broken[k] = Array(g[k].meta());
            std::memcpy(broken[k].bytes().data(), g[k].bytes().data(), g[k].bytes().size());
            auto values = broken[k].values<float>();
            values[values.size() - 1] = bad;
            auto norm = norm_of(broken);
            if (std::isnan(bad)) CHECK(std::isnan(norm));
            else CHECK(norm == infinity);
        }
    auto huge = std::numeric_limits<float>::max();
    CHECK(norm_of({Array(Shape{2}, std::vector<float>{huge, huge})}) == infinity);
    CHECK_THROWS_WITH(gradient_norm({}), ContainsSubstring("gradient_norm: there are no gradients"));
}

TEST_CASE("the definitions have the kernels' bits, whatever the scale") {
    int seen = 0;
    for (auto t : {f32, f64})
        for (double m : {5e-324, 1e-310, 1e-45, 3e-39, 0.5, 0.9999, 1.0, 1.5, 2.0, 3e38, 1.7e308, 0.0,
                         infinity, std::nan("")}) {
            Array most(Meta{t, {}});
            if (t == f32) most.values<float>()[0] = static_cast<float>(m);
            else most.values<double>()[0] = m;
            auto g = random_array({t, {70, 3}}, 8, 0);
            for (std::size_t i = 0; i < 210; ++i) {
                double x = most.at(0) * (static_cast<double>(i) / 105 - 1);
                if (t == f32) g.values<float>()[i] = static_cast<float>(x);
                else g.values<double>()[i] = x;
            }
            for (AnyOp op : {AnyOp(Squares{31}), AnyOp(NormOfSquares{31})}) {
                CAPTURE(m, name_of(t), op.text());
                Array sums(Shape{2}, std::vector<std::int64_t>{7'000'000'123, 456'789});
                Tensors in{op.as<Squares>() ? Tensor(g) : Tensor(sums), Tensor(most)};
                auto got = evaluate(apply_one(op, in)), want = evaluate(op.define(in)[0]);
                CHECK((same_bits(got, want) ||
                       (std::isnan(m) && std::isnan(got.at(0)) && std::isnan(want.at(0)))));
                ++seen;
            }
        }
    CHECK(seen == 56);
    Tensor g = batch_input("g", {f32, {3}});
    CHECK_THROWS_WITH(gradients(gradient_norm({g}), {g}),
                      ContainsSubstring("norm_of_squares: has no gradient"));
}

TEST_CASE("squares of many gradients fit into their integers") {
    for (std::int64_t n : {1LL, 1000LL, 1LL << 30, 1LL << 33, 1LL << 40}) {
        auto norm = gradient_norm({batch_input("g", {f32, {n}}), batch_input("h", {bf16, {n}})});
        int bits = norm.value().node->op.as<NormOfSquares>()->bits;
        CAPTURE(n, bits);
        CHECK(bits >= 20);
        CHECK(std::ldexp(static_cast<double>(2 * n), bits) <= std::ldexp(1.0, 63));
        if (n <= 1LL << 30) CHECK(bits == 31);
    }
}
