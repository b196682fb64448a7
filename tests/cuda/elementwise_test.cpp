#include "plait/ops/elementwise.hpp"
#include "kernel_runs.hpp"
#include "plait/ops/attention.hpp"

#include <limits>

using namespace tests;
using plait::UnaryFn;

namespace {

/// F on tensors of n elements against the CPU's kernel of `op`; outputs take the memory of the first inputs.
template <class F, class T>
void check_map(plait::AnyOp const& op, std::int64_t n, std::int64_t shift) {
    auto type = dtype_of<T>;
    std::vector<Numbers> in;
    for (int k = 0; k < F::inputs; ++k) in.emplace_back(type, plait::Shape{n}, 7 + k, k ? 2 : 12);
    in[0].set(0, -std::numeric_limits<double>::infinity());
    if (n > 2) in[0].set(1, 1e30), in[0].set(2, -1e30);
    auto got = in_both_orders([&](gpu::Order order) {
        std::vector<Memory<T>> memory;
        gpu::Map<F, T> kernel{};
        for (int k = 0; k < F::inputs; ++k) {
            memory.emplace_back(in[static_cast<std::size_t>(k)], shift);
            kernel.x[k] = memory.back().get();
        }
        for (int k = 0; k < F::outputs; ++k) kernel.y[k] = memory[static_cast<std::size_t>(k)].get();
        kernel.n = n;
        gpu::launch(kernel, kernel.blocks(), order);
        std::vector<Numbers> out;
        for (int k = 0; k < F::outputs; ++k)
            out.push_back(memory[static_cast<std::size_t>(k)].numbers(type, {n}));
        return out;
    });
    auto want = run_kernel(op, in);
    REQUIRE(got.size() == want.size());
    for (std::size_t k = 0; k < got.size(); ++k)
        for (std::int64_t i = 0; i < n; ++i) {
            INFO("output " << k << ", element " << i << " of " << n << ": " << got[k](i) << ", want "
                           << want[k](i));
            if (std::isfinite(want[k](i))) {
                auto bound = (type == plait::bf16 ? 0.008 : 4e-6) * std::max(0.05, std::abs(want[k](i)));
                REQUIRE(std::abs(got[k](i) - want[k](i)) <= bound);
            } else {
                REQUIRE(std::isnan(got[k](i)) == std::isnan(want[k](i)));
            }
        }
}

std::pair<std::int64_t, std::int64_t> const sizes[] = {{1, 0},    {7, 0},    {33, 1},  {1000, 0},
                                                       {4096, 0}, {4099, 0}, {1000, 3}};

}  // namespace

TEMPLATE_TEST_CASE("GELU, SwiGLU and their gradients", "", float, gpu::Bf16) {
    for (auto [n, shift] : sizes) {
        CAPTURE(n, shift);
        check_map<gpu::Gelu, TestType>(plait::Unary{UnaryFn::gelu}, n, shift);
        check_map<gpu::GeluGradient, TestType>(plait::UnaryGradient{UnaryFn::gelu}, n, shift);
        check_map<gpu::SwiGlu, TestType>(plait::SwiGlu{}, n, shift);
        check_map<gpu::SwiGluGradient, TestType>(plait::SwiGluGradient{}, n, shift);
    }
}

TEST_CASE("casts round as the CPU does") {
    for (auto [n, shift] : sizes) {
        Numbers x(plait::f32, {n}, 3);
        if (n > 6) {
            double const special[] = {1e-45, -1e-40,    3.4e38, std::numeric_limits<double>::infinity(),
                                      -0.0,  1.00390625};
            for (int i = 0; i < 6; ++i) x.set(i, special[i]);
        }
        auto want = run_kernel(plait::Cast{plait::bf16}, {x})[0];
        auto got = in_both_orders([&, n = n, shift = shift](gpu::Order order) {
            Memory<float> from(x, shift), back(n, shift);
            Memory<gpu::Bf16> to(n, shift);
            gpu::Map<gpu::Copy, float, gpu::Bf16> down{{from.get()}, {to.get()}, n};
            gpu::launch(down, down.blocks(), order);
            gpu::Map<gpu::Copy, gpu::Bf16, float> up{{to.get()}, {back.get()}, n};
            gpu::launch(up, up.blocks(), order);
            return std::vector{to.numbers(plait::bf16, {n}), back.numbers(plait::f32, {n})};
        });
        REQUIRE(same_bits(got[0], want));
        REQUIRE(same_bits(got[1], run_kernel(plait::Cast{plait::f32}, {want})[0]));
    }
    REQUIRE(std::isnan(gpu::to_float(
        gpu::Bf16{static_cast<std::uint16_t>(gpu::bf16_pair(std::numeric_limits<float>::quiet_NaN(), 1))})));
}

TEMPLATE_TEST_CASE("RoPE on packed projections", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    constexpr std::int64_t batch = 2, seq = 5;
    for (int dim : {2, 14, 16, 64, 128})
        for (bool inverse : {false, true})
            for (bool per_token : {false, true})
                for (std::int64_t shift : {0, 1}) {
                    CAPTURE(dim, inverse, per_token, shift);
                    std::int64_t const heads = 3, all = 5;  // q and k, and v behind them
                    Numbers packed(type, {batch, seq, all, dim}, 1);
                    Numbers table = per_token ? Numbers(plait::f32, {batch, seq, dim / 2, 2}, 2)
                                              : Numbers(plait::f32, {seq, dim / 2, 2}, 2);
                    auto got = in_both_orders([&](gpu::Order order) {
                        Memory<TestType> x(packed, shift);
                        Memory<float> t(table);
                        gpu::Rope<TestType> kernel{.x = x.get(),
                                                   .table = t.get(),
                                                   .y = x.get(),
                                                   .tokens = batch * seq,
                                                   .table_rows = per_token ? batch * seq : seq,
                                                   .x_stride = all * dim,
                                                   .y_stride = all * dim,
                                                   .heads = heads,
                                                   .dim = dim,
                                                   .inverse = inverse};
                        gpu::launch(kernel, kernel.blocks(), order);
                        return std::vector{x.numbers(type, {batch, seq, all, dim})};
                    })[0];
                    auto turned = run_kernel(plait::Rope{inverse}, {packed, table})[0];
                    for (std::int64_t i = 0; i < got.size(); ++i) {
                        bool here = i / dim % all < heads;
                        double want = here ? turned(i) : packed(i);
                        REQUIRE(std::abs(got(i) - want) <= (here ? tolerance(type) : 0));
                    }
                }
}
