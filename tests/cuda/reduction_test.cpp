#include "plait/ops/reduce.hpp"
#include "row_runs.hpp"

#include <limits>

using namespace tests;
using namespace plait;

namespace {

/// Dims and shapes whose reductions take every path: rows of a warp, of a block and of chunks, columns that
/// are added up in one way or eight, in chunks or not, and several runs of dims.
std::vector<std::pair<std::vector<int>, Shape>> const shapes = {
    {{0}, {40001}},         {{1}, {37, 53}},     {{1}, {3, 2500}},    {{0}, {517, 137}},
    {{0}, {1100, 16}},      {{1}, {3, 130, 5}},  {{1}, {3, 7, 300}},  {{0, 2, 4}, {3, 4, 5, 2, 7}},
    {{0, 2}, {200, 3, 90}}, {{0, 1}, {3, 1, 2}}, {{}, {3, 5}},        {{1}, {3, 1, 2}},
    {{0}, {0, 3}},          {{1}, {0, 3}},       {{1}, {300, 70, 1}},
};

}  // namespace

TEST_CASE("sums and maxima along dims") {
    for (auto const& [dims, shape] : shapes)
        for (auto fn : {ReduceFn::sum, ReduceFn::max}) {
            for (auto t : {f32, bf16})
                check_row(Reduce{fn, dims}, {Numbers(t, shape, 1)}, fn == ReduceFn::max);
            if (shape.elements() > 10000) continue;
            for (auto t : {i32, i64}) check_row(Reduce{fn, dims}, {integers(shape, -9, 99, t)}, true);
        }
    check_row(Reduce{ReduceFn::sum, {0}}, {integers({200, 3}, 0, 200, u8)}, true);
    for (auto const& [dims, shape] : shapes) {
        Reduce const op{ReduceFn::sum, dims};
        for (auto t : {f32, bf16}) {
            if (t == bf16 && shape.elements() > 10000) continue;
            Numbers x(t, shape, 1), before(op.infer({x.meta()})[0].dtype, op.infer({x.meta()})[0].shape, 2);
            check_row(op, {x}, false, {.accumulate = 1, .before = {before}});
        }
    }
    Numbers nan(f32, {3, 2000}, 1);
    nan.set(2345, std::numeric_limits<double>::quiet_NaN());
    for (auto fn : {ReduceFn::sum, ReduceFn::max})
        for (int dim : {0, 1}) {
            auto y = run_row(Reduce{fn, {dim}}, {nan})[0];
            for (std::int64_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y(i)) == (i == (dim ? 1 : 345)));
        }
}

TEMPLATE_TEST_CASE("a block of the dims that stay has the bits of the whole", "", float, plait::Bf16) {
    constexpr auto t = plait::dtype_of<TestType>;
    for (std::int64_t size : {5, 700, 1500}) {
        Numbers rows(t, {6, size}, 1), row({t, {1, size}}), columns(t, {size, 24}, 1), some({t, {size, 5}});
        for (std::int64_t i = 0; i < size; ++i) {
            row.set(i, rows(4 * size + i));
            for (std::int64_t k = 0; k < 5; ++k) some.set(i * 5 + k, columns(i * 24 + 9 + k));
        }
        CHECK(run_row(Reduce{ReduceFn::sum, {1}}, {row})[0](0) ==
              run_row(Reduce{ReduceFn::sum, {1}}, {rows})[0](4));
        auto whole = run_row(Reduce{ReduceFn::sum, {0}}, {columns})[0],
             part = run_row(Reduce{ReduceFn::sum, {0}}, {some})[0];
        for (std::int64_t k = 0; k < 5; ++k) CHECK(part(k) == whole(9 + k));
    }
}

TEMPLATE_TEST_CASE("softmax of short and long rows, and its gradient", "", float, plait::Bf16) {
    constexpr auto t = plait::dtype_of<TestType>;
    for (std::int64_t n : {1, 7, 257, 2048, 3001})
        for (std::int64_t rows : {1, 11}) {
            Numbers x(t, {rows, n}, 1, 8), y = run_kernel(Softmax{}, {x})[0], dy(t, {rows, n}, 2);
            check_row(Softmax{}, {x}, false);
            check_row(Softmax{}, {x}, false, {.in_place = Alias{0, 0}});
            check_row(SoftmaxGradient{}, {y, dy}, false);
            check_row(SoftmaxGradient{}, {y, dy}, false, {.in_place = Alias{0, 1}});
        }
    check_row(Softmax{}, {Numbers(t, {0, 5}, 1)}, false);
}
