#include "plait/ops/norm.hpp"
#include "kernel_runs.hpp"

using namespace tests;

namespace {

struct Rows {
    std::int64_t rows;
    int columns;
    bool residual;
    std::int64_t shift;
};

std::vector<Numbers> wanted(std::vector<Numbers> const& in, bool centred, bool residual) {
    if (centred) return run_kernel(plait::LayerNorm{1e-5, residual}, in);
    return run_kernel(plait::RmsNorm{1e-5, residual}, in);
}
std::vector<Numbers> wanted_gradient(std::vector<Numbers> const& in, bool centred, bool residual) {
    if (centred) return run_kernel(plait::LayerNormGradient{residual}, in);
    return run_kernel(plait::RmsNormGradient{residual}, in);
}

template <class T, bool centred, int team>
void check_forward(Rows const& r) {
    using Kernel = gpu::NormForward<T, centred, team>;
    if (r.columns > Kernel::longest) return;
    plait::Shape shape{r.rows, r.columns};
    std::int64_t n = r.rows * r.columns;
    auto type = dtype_of<T>;
    Numbers x(type, shape, 1, 3), other(type, shape, 2), gain(plait::f32, {r.columns}, 3),
        bias(plait::f32, {r.columns}, 4);
    auto got = in_both_orders([&](gpu::Order order) {
        Memory<T> a(x, r.shift), b(other, r.shift), y(n, r.shift), sum(n, r.shift);
        Memory<float> g(gain, r.shift), c(bias, r.shift), mean(r.rows), rstd(r.rows);
        Kernel kernel{.x = a.get(),
                      .residual = r.residual ? b.get() : nullptr,
                      .gain = g.get(),
                      .bias = c.get(),
                      .y = y.get(),
                      .mean = mean.get(),
                      .rstd = rstd.get(),
                      .sum = sum.get(),
                      .rows = r.rows,
                      .columns = r.columns,
                      .eps = 1e-5f};
        gpu::launch(kernel, kernel.blocks(), order);
        std::vector<Numbers> out{y.numbers(type, shape)};
        if (centred) out.push_back(mean.numbers(plait::f32, {r.rows}));
        out.push_back(rstd.numbers(plait::f32, {r.rows}));
        if (r.residual) out.push_back(sum.numbers(type, shape));
        return out;
    });
    std::vector<Numbers> in{x};
    if (r.residual) in.push_back(other);
    in.push_back(gain);
    if (centred) in.push_back(bias);
    auto want = wanted(in, centred, r.residual);
    same({got[0]}, {want[0]});
    // rstd of a row of one column is 1 / sqrt(eps), so it is relative errors that are small.
    for (std::size_t k = 1; k < (centred ? 3 : 2); ++k)
        for (std::int64_t i = 0; i < r.rows; ++i)
            REQUIRE(got[k](i) == Approx(want[k](i)).epsilon(1e-5).margin(1e-6));
    if (r.residual) REQUIRE(same_bits(got.back(), want.back()));
}

template <class T, bool centred, int team, int packs>
void check_backward(Rows const& r) {
    using Kernel = gpu::NormBackward<T, centred, team, packs>;
    if (r.columns > Kernel::longest) return;
    plait::Shape shape{r.rows, r.columns};
    auto type = dtype_of<T>;
    Numbers dy(type, shape, 1), x(type, shape, 2, 2), extra(type, shape, 3), gain(plait::f32, {r.columns}, 4),
        mean(plait::f32, {r.rows}, 5), rstd(plait::f32, {r.rows}, 6);
    for (std::int64_t i = 0; i < r.rows; ++i) rstd.set(i, 1 + rstd(i) / 2);
    auto partials = Kernel::partials(r.rows);
    auto got = in_both_orders([&](gpu::Order order) {
        Memory<T> d(dy, r.shift), a(x, r.shift), e(extra, r.shift);
        Memory<float> g(gain, r.shift), m(mean), s(rstd),
            partial(partials * Kernel::sums * r.columns, r.shift);
        Kernel kernel{.dy = d.get(),
                      .x = a.get(),
                      .gain = g.get(),
                      .mean = m.get(),
                      .rstd = s.get(),
                      .residual = r.residual ? e.get() : nullptr,
                      .dx = d.get(),
                      .partial = partial.get(),
                      .rows = r.rows,
                      .each = Kernel::rows_per_team(r.rows),
                      .columns = r.columns};
        gpu::launch(kernel, kernel.blocks(), order);
        std::vector<Numbers> out{d.numbers(type, shape)};
        for (int k = 0; k < Kernel::sums; ++k) {
            Memory<float> total(Numbers(plait::f32, {r.columns}, 9));
            // Written, then once more added.
            for (bool accumulate : {false, true}) {
                gpu::ColumnSums sums{.x = partial.get() + k * r.columns,
                                     .y = total.get(),
                                     .rows = partials,
                                     .stride = Kernel::sums * r.columns,
                                     .columns = r.columns,
                                     .accumulate = accumulate};
                gpu::launch(sums, sums.blocks(), order);
            }
            auto twice = total.numbers(plait::f32, {r.columns});
            for (std::int64_t i = 0; i < r.columns; ++i) twice.set(i, twice(i) / 2);
            out.push_back(twice);
        }
        return out;
    });
    std::vector<Numbers> in{dy, x, gain};
    if (centred) in.push_back(mean);
    in.push_back(rstd);
    if (r.residual) in.push_back(extra);
    same(got, wanted_gradient(in, centred, r.residual));
}

Rows const shapes[] = {{1, 1, false, 0},    {5, 7, true, 0},     {9, 33, false, 1},  {11, 256, true, 0},
                       {10, 1000, true, 0}, {3, 1000, false, 1}, {2, 1024, true, 1}, {19, 64, false, 0}};

}  // namespace

TEMPLATE_TEST_CASE("norms of rows", "", float, gpu::Bf16) {
    for (auto const& r : shapes) {
        CAPTURE(r.rows, r.columns, r.residual, r.shift);
        check_forward<TestType, true, 32>(r);
        check_forward<TestType, true, 256>(r);
        check_forward<TestType, false, 32>(r);
        check_forward<TestType, false, 256>(r);
    }
    check_forward<TestType, true, 256>({2, 4104, true, 0});
    check_forward<TestType, false, 256>({2, 8192, false, 0});
}

TEMPLATE_TEST_CASE("gradients of norms", "", float, gpu::Bf16) {
    constexpr int packs = sizeof(TestType) / 2;
    for (auto const& r : shapes) {
        CAPTURE(r.rows, r.columns, r.residual, r.shift);
        check_backward<TestType, true, 32, 4 * packs>(r);
        check_backward<TestType, true, 256, 2 * packs>(r);
        check_backward<TestType, false, 32, 4 * packs>(r);
        check_backward<TestType, false, 256, 2 * packs>(r);
    }
    check_backward<TestType, true, 256, 4 * packs>({2, 8192, true, 0});
    check_backward<TestType, false, 256, 4 * packs>({9, 5001, false, 0});
}

TEST_CASE("a norm of no rows runs no block") {
    gpu::NormForward<float, true, 32> forward{};
    REQUIRE(forward.blocks() == 0);
    gpu::NormBackward<float, true, 32, 4> backward{};
    REQUIRE(backward.blocks() == 0);
}
