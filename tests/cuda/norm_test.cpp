#include "plait/ops/norm.hpp"
#include "row_runs.hpp"

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

template <class Kernel, class T, bool centred>
void check_forward(Rows const& r) {
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

template <class Kernel, class T, bool centred>
void check_backward(Rows const& r) {
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
        if constexpr (requires { kernel.sums_over_rows(); }) {
            auto first = kernel.sums_over_rows();
            gpu::launch(first, first.blocks(), order);
        }
        gpu::launch(kernel, kernel.blocks(), order);
        std::vector<Numbers> out{d.numbers(type, shape)};
        for (int k = 0; k < Kernel::sums; ++k) {
            Numbers total({plait::f32, {r.columns}});
            for (std::int64_t c = 0; c < r.columns; ++c) {
                double sum = 0;
                for (std::int64_t t = 0; t < partials; ++t)
                    sum += partial[(t * Kernel::sums + k) * r.columns + c];
                total.set(c, sum);
            }
            out.push_back(total);
        }
        return out;
    });
    std::vector<Numbers> in{dy, x, gain};
    if (centred) in.push_back(mean);
    in.push_back(rstd);
    if (r.residual) in.push_back(extra);
    same(got, wanted_gradient(in, centred, r.residual));
}

Rows const shapes[] = {{1, 1, false, 0},  {5, 7, true, 0},    {9, 33, false, 1},   {11, 256, true, 0},
                       {9, 768, true, 0}, {3, 1000, true, 0}, {3, 1000, false, 1}, {2, 1024, true, 1}};

template <class T, bool centred>
void check_all_forward(Rows const& r) {
    check_forward<gpu::NormForward<T, centred, 32>, T, centred>(r);
    check_forward<gpu::NormForward<T, centred, 256>, T, centred>(r);
    check_forward<gpu::LongNormForward<T, centred>, T, centred>(r);
}
template <class T, bool centred>
void check_all_backward(Rows const& r) {
    constexpr int one = sizeof(T) / 2;
    if (r.columns <= 768) check_backward<gpu::NormBackward<T, centred, 32, 3 * one>, T, centred>(r);
    check_backward<gpu::NormBackward<T, centred, 32, 4 * one>, T, centred>(r);
    check_backward<gpu::NormBackward<T, centred, 256, 2 * one>, T, centred>(r);
    check_backward<gpu::LongNormBackward<T, centred>, T, centred>(r);
}

}  // namespace

TEMPLATE_TEST_CASE("norms of rows", "", float, gpu::Bf16) {
    for (auto const& r : shapes) {
        CAPTURE(r.rows, r.columns, r.residual, r.shift);
        check_all_forward<TestType, true>(r);
        check_all_forward<TestType, false>(r);
    }
    check_forward<gpu::NormForward<TestType, true, 256>, TestType, true>({2, 4104, true, 0});
    check_forward<gpu::LongNormForward<TestType, true>, TestType, true>({2, 9001, true, 0});
    check_forward<gpu::LongNormForward<TestType, false>, TestType, false>({2, 9008, true, 0});
}

TEMPLATE_TEST_CASE("gradients of norms", "", float, gpu::Bf16) {
    constexpr int one = sizeof(TestType) / 2;
    for (auto const& r : shapes) {
        CAPTURE(r.rows, r.columns, r.residual, r.shift);
        check_all_backward<TestType, true>(r);
        check_all_backward<TestType, false>(r);
    }
    check_backward<gpu::NormBackward<TestType, true, 256, 4 * one>, TestType, true>({2, 8192, true, 0});
    check_backward<gpu::NormBackward<TestType, false, 256, 4 * one>, TestType, false>({9, 5001, false, 0});
    check_backward<gpu::LongNormBackward<TestType, true>, TestType, true>({9, 9001, true, 0});
    check_backward<gpu::LongNormBackward<TestType, false>, TestType, false>({2, 9008, false, 0});
}

TEST_CASE("sums of columns") {
    for (int columns : {1, 33, 70})
        for (std::int64_t rows : {0, 1, 40})
            for (bool two : {false, true}) {
                CAPTURE(columns, rows, two);
                std::int64_t stride = two ? 2 * columns : columns + 3;
                Numbers in(plait::f32, {rows * stride}, 1), before(plait::f32, {columns}, 2);
                auto got = in_both_orders([&](gpu::Order order) {
                    Memory<float> x(in), first(before), second(before);
                    gpu::ColumnSums kernel{.x = x.get(),
                                           .y = first.get(),
                                           .rows = rows,
                                           .stride = stride,
                                           .columns = columns,
                                           .accumulate = !two,
                                           .second = two ? second.get() : nullptr,
                                           .accumulate_second = true};
                    gpu::launch(kernel, kernel.blocks(), order);
                    return std::vector{first.numbers(plait::f32, {columns}),
                                       second.numbers(plait::f32, {columns})};
                });
                for (int k = 0; k < 2; ++k)
                    for (int c = 0; c < columns; ++c) {
                        double want = k == 1 || !two ? before(c) : 0;
                        for (std::int64_t r = 0; r < rows && (k == 0 || two); ++r)
                            want += in(r * stride + k * columns + c);
                        REQUIRE(std::abs(got[static_cast<std::size_t>(k)](c) - want) <= 1e-5);
                    }
            }
}

TEMPLATE_TEST_CASE("rows of every length have a norm and its gradient", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    for (std::int64_t columns : {100, 2050, 8200, 16392}) {
        CAPTURE(columns);
        std::int64_t rows = columns == 100 ? 5 : 2;
        Numbers x(type, {rows, columns}, 1), r(type, {rows, columns}, 2), dy(type, {rows, columns}, 3);
        // Gains as the master weights are, and as they are when a model is of one dtype.
        for (auto of_gain : {plait::f32, type}) {
            Numbers gain(of_gain, {columns}, 4), bias(of_gain, {columns}, 5);
            plait::LayerNorm op{1e-5, true};
            auto got = run_rows({{op, {x, r, gain, bias}}}).out[0], want = run_kernel(op, {x, r, gain, bias});
            same(got, want);
            if (columns > 9000) continue;
            plait::RmsNormGradient back{true};
            How how{.accumulate = 0b10, .in_place = plait::Alias{0, 0}};
            how.before = {dy, Numbers(plait::f32, {columns}, 6)};
            std::vector<Numbers> in{dy, x, gain, want[2], r};
            same(run_rows({{back, in, how}}).out[0], run_kernel(back, in, how));
        }
    }
    Numbers x(type, {3, 2, 50}, 1), gain(plait::f32, {50}, 2), mean(plait::f32, {3, 2}, 3),
        rstd(plait::f32, {3, 2}, 4);
    plait::LayerNormGradient op;
    for (std::uint32_t accumulate : {0b000u, 0b010u, 0b100u}) {
        How how{.accumulate = accumulate, .before = {x, gain, gain}};
        same(run_row(op, {x, x, gain, mean, rstd}, how), run_kernel(op, {x, x, gain, mean, rstd}, how));
    }
}

TEST_CASE("a norm of no rows runs no block") {
    gpu::NormForward<float, true, 32> forward{};
    REQUIRE(forward.blocks() == 0);
    gpu::NormBackward<float, true, 32, 4> backward{};
    REQUIRE(backward.blocks() == 0);
    gpu::LongNormBackward<float, true> other{};
    other.each = 8;
    REQUIRE(other.blocks() == 0);
    REQUIRE(other.sums_over_rows().blocks() == 0);
}
