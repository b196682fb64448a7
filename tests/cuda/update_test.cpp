#include "plait/ops/update.hpp"
#include "kernel_runs.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/gradient_norm.hpp"

#include <bit>
#include <limits>

using namespace tests;

namespace {

std::vector<std::int64_t> const sizes{1, 7, 33, 1000, 4096, 9001};

/// Several parameters in one launch, each cut into parts as a backend would.
template <class G>
struct Update {
    std::vector<Memory<float>> p, m, v;
    std::vector<Memory<G>> g;
    std::vector<Memory<gpu::Bf16>> copy;
    std::vector<gpu::UpdatePart<G>> parts;

    Update(std::vector<std::vector<Numbers>> const& in, std::int64_t shift) {
        for (std::size_t k = 0; k < sizes.size(); ++k) {
            p.emplace_back(in[k][0], shift), g.emplace_back(in[k][1], shift);
            m.emplace_back(in[k][2], shift), v.emplace_back(in[k][3], shift);
            copy.emplace_back(sizes[k], shift);
        }
        for (std::size_t k = 0; k < sizes.size(); ++k)
            for (std::int64_t i = 0; i < sizes[k]; i += gpu::AdamW<G>::part)
                parts.push_back({p[k].get() + i, g[k].get() + i, m[k].get() + i, v[k].get() + i,
                                 k % 2 ? copy[k].get() + i : nullptr,
                                 static_cast<int>(std::min<std::int64_t>(gpu::AdamW<G>::part, sizes[k] - i)),
                                 k % 3 ? 0.1f : 0.0f});
    }
};

template <class T>
std::vector<gpu::GradientPart<T>> gradient_parts(std::vector<Memory<T>> const& g,
                                                 std::vector<Numbers> const& x) {
    std::vector<gpu::GradientPart<T>> parts;
    for (std::size_t k = 0; k < g.size(); ++k)
        for (std::int64_t i = 0; i < x[k].size(); i += gpu::GradientPart<T>::most)
            parts.push_back({g[k].get() + i, static_cast<int>(std::min<std::int64_t>(
                                                 gpu::GradientPart<T>::most, x[k].size() - i))});
    return parts;
}

}  // namespace

TEMPLATE_TEST_CASE("AdamW over many parameters", "", float, gpu::Bf16) {
    for (std::int32_t step : {1, 2, 1000, 1000000})
        for (int guard : {-1, 0, 1}) {
            std::int64_t shift = step == 2;
            CAPTURE(step, guard, shift);
            std::vector<std::vector<Numbers>> in;
            for (auto n : sizes) {
                auto seed = static_cast<std::uint64_t>(n);
                in.push_back({Numbers(plait::f32, {n}, seed), Numbers(dtype_of<TestType>, {n}, seed + 1, 4),
                              Numbers(plait::f32, {n}, seed + 2, 0.1),
                              positive(Numbers(plait::f32, {n}, seed + 3, 0.01))});
            }
            float rate = 3e-2f, scale = 0.25f;
            auto guarded = static_cast<std::uint8_t>(guard);
            auto got = in_both_orders([&](gpu::Order order) {
                Update<TestType> u(in, shift);
                gpu::AdamW<TestType> kernel{.parts = u.parts.data(),
                                            .count = static_cast<int>(u.parts.size()),
                                            .rate = &rate,
                                            .step = &step,
                                            .scale = guard < 0 ? nullptr : &scale,
                                            .guard = guard < 0 ? nullptr : &guarded,
                                            .beta1 = 0.9,
                                            .beta2 = 0.95,
                                            .eps = 1e-8f};
                gpu::launch(kernel, kernel.blocks(), order);
                std::vector<Numbers> out;
                for (std::size_t k = 0; k < sizes.size(); ++k) {
                    for (auto const* x : {&u.p[k], &u.m[k], &u.v[k]})
                        out.push_back(x->numbers(plait::f32, {sizes[k]}));
                    out.push_back(u.copy[k].numbers(plait::bf16, {sizes[k]}));
                }
                return out;
            });
            Numbers rate_({plait::f32, {}}), step_({plait::i32, {}}), scale_({plait::f32, {}});
            rate_.set(0, rate), step_.set(0, step), scale_.set(0, guard < 0 ? 1 : scale);
            for (std::size_t k = 0; k < sizes.size(); ++k) {
                INFO("parameter of " << sizes[k]);
                auto x = in[k];
                auto whole = run_kernel(plait::Cast{plait::f32}, {x[1]})[0];
                plait::AdamWUpdate op{.decay = k % 3 ? 0.1f : 0.0f, .scaled = true};
                auto want = run_kernel(op, {x[0], whole, x[2], x[3], rate_, step_, scale_});
                if (guard == 0) want = {x[0], x[2], x[3]};
                same({got[4 * k], got[4 * k + 1], got[4 * k + 2]}, want);
                if (guard == 0) REQUIRE(same_bits(got[4 * k], x[0]));
                if (k % 2 && guard != 0)
                    REQUIRE(same_bits(got[4 * k + 3], run_kernel(plait::Cast{plait::bf16}, {got[4 * k]})[0]));
            }
        }
}

TEMPLATE_TEST_CASE("the gradients' norm has the CPU's bits", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    double const inf = std::numeric_limits<double>::infinity();
    // The largest number to put in, and the scale of the others.
    for (auto [largest, scale] : std::vector<std::pair<double, double>>{{0.5, 0.5},
                                                                        {3.0, 1.0},
                                                                        {3.3e38, 1.0},
                                                                        {3.3e38, 3e38},
                                                                        {1e-38, 1e-38},
                                                                        {1e-40, 1e-41},
                                                                        {1.0, 1e-9},
                                                                        {0, 0},
                                                                        {inf, 1.0},
                                                                        {std::nan(""), 1.0}})
        for (int bits : {31, 30, 17, 1}) {
            CAPTURE(largest, scale, bits);
            std::vector<Numbers> x;
            Numbers most({plait::f32, {}});
            for (auto n : sizes) x.emplace_back(type, plait::Shape{n}, static_cast<std::uint64_t>(n), scale);
            x[3].set(500, largest);
            for (auto const& one : x) {
                auto m = run_kernel(plait::MaxAbsolute{}, {one})[0](0);
                if (!(most(0) >= m || std::isnan(most(0)))) most.set(0, m);
            }
            std::int64_t hi = 0, lo = 0;
            for (auto const& one : x) {
                auto words = run_kernel(plait::Squares{bits}, {one, most})[0];
                auto const* w = reinterpret_cast<std::int64_t const*>(words.data());
                hi += w[0], lo += w[1];
            }
            Numbers words({plait::i64, {2}});
            std::memcpy(words.data(), &hi, 8);
            std::memcpy(words.data() + 8, &lo, 8);
            auto norm = run_kernel(plait::NormOfSquares{bits}, {words, most})[0];

            auto got = in_both_orders([&](gpu::Order order) {
                std::vector<Memory<TestType>> g;
                for (auto const& one : x) g.emplace_back(one, bits == 30);
                auto parts = gradient_parts(g, x);
                auto count = static_cast<int>(parts.size());
                Memory<std::uint32_t> top(1);
                Memory<std::int64_t> sums(2);
                Memory<float> root(1);
                top[0] = 0, sums[0] = sums[1] = 0;
                gpu::MaxAbsolute<TestType> first{parts.data(), count, top.get()};
                gpu::launch(first, first.blocks(), order);
                Memory<float> m(1);
                std::memcpy(m.get(), top.get(), 4);
                gpu::Squares<TestType> second{parts.data(), count, m.get(), sums.get(), bits};
                gpu::launch(second, second.blocks(), order);
                gpu::NormOfSquares third{sums.get(), m.get(), root.get(), bits};
                gpu::launch(third, third.blocks(), order);
                return std::vector{m.numbers(plait::f32, {}), sums.numbers(plait::i64, {2}),
                                   root.numbers(plait::f32, {})};
            });
            REQUIRE(same_bits(got[0], most));
            REQUIRE(same_bits(got[1], words));
            REQUIRE(same_bits(got[2], norm));
        }
}
