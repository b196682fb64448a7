#include "kernel_runs.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/loss.hpp"

using namespace tests;

TEMPLATE_TEST_CASE("rows of a table, and of a block of it", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    constexpr std::int64_t vocab = 40, count = 37;
    auto tokens = integers({count}, 0, vocab);
    for (int dim : {1, 7, 33, 256, 1000})
        for (std::int64_t shift : {0, 1})
            for (std::int64_t origin : {0, 16}) {
                CAPTURE(dim, shift, origin);
                std::int64_t rows = origin ? 16 : vocab;
                Numbers table(type, {rows, dim}, 1);
                auto got = in_both_orders([&](gpu::Order order) {
                    Memory<std::int32_t> t(tokens);
                    Memory<TestType> from(table, shift), y(count * dim, shift);
                    Memory<std::uint32_t> fault(1);
                    fault[0] = 0;
                    gpu::Embedding<TestType> kernel{t.get(), from.get(), y.get(), fault.get(), count,
                                                    origin,  rows,       vocab,   dim};
                    gpu::launch(kernel, kernel.blocks(), order);
                    REQUIRE(fault[0] == 0);
                    return std::vector{y.numbers(type, {count, dim})};
                });
                How how;
                if (origin) how.in_blocks = {{}, {{origin, 0}, {vocab, dim}}};
                REQUIRE(same_bits(got[0], run_kernel(plait::Embedding{}, {tokens, table}, how)[0]));
            }
}

TEST_CASE("tokens and targets that are none are told") {
    std::int32_t tokens[] = {3, -1, 4, 2};
    std::uint32_t fault = 0;
    Memory<float> table(Numbers(plait::f32, {4, 8}, 1)), y(32);
    gpu::Embedding<float> rows{tokens, table.get(), y.get(), &fault, 4, 0, 4, 4, 8};
    gpu::launch(rows, rows.blocks());
    REQUIRE(fault == 3);
    for (int i = 8; i < 24; ++i) REQUIRE(y[i] == 0);
    REQUIRE(y[24] == table[16]);

    fault = 0;
    std::int32_t targets[] = {2, 7, 6};
    float dnll[] = {1, 1, 1}, nll[3], lse[3];
    Memory<float> logits(Numbers(plait::f32, {3, 8}, 1));
    gpu::CrossEntropy<float> loss{logits.get(), targets, dnll, nll, lse, &fault, 3, 8, 7};
    gpu::launch(loss, loss.blocks());
    REQUIRE(fault == 2);
    REQUIRE(nll[1] == 0);
    for (int i = 8; i < 16; ++i) REQUIRE(logits[i] == 0);
}

TEMPLATE_TEST_CASE("cross-entropy and its gradient in place", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    constexpr std::int64_t rows = 5;
    struct {
        int columns, classes;
        std::int64_t shift;
        double scale;
    } const shapes[] = {{1, 1, 0, 3},        {7, 7, 0, 90},      {33, 30, 1, 5},
                        {1000, 1000, 0, 30}, {4104, 4099, 0, 3}, {9000, 9000, 1, 300}};
    for (auto [columns, classes, shift, scale] : shapes)
        for (bool gradient : {false, true}) {
            CAPTURE(columns, classes, shift, gradient);
            Numbers logits(type, {rows, columns}, 1, scale), dnll(plait::f32, {rows}, 2);
            auto targets = integers({rows}, 0, classes);
            targets.set(1, -1);
            auto got =
                in_both_orders([&, columns = columns, classes = classes, shift = shift](gpu::Order order) {
                    Memory<TestType> x(logits, shift);
                    Memory<std::int32_t> t(targets);
                    Memory<float> d(dnll), nll(rows), lse(rows);
                    std::uint32_t fault = 0;
                    gpu::CrossEntropy<TestType> kernel{x.get(),   t.get(),   gradient ? d.get() : nullptr,
                                                       nll.get(), lse.get(), &fault,
                                                       rows,      columns,   classes};
                    gpu::launch(kernel, kernel.blocks(), order);
                    REQUIRE(fault == 0);
                    return std::vector{nll.numbers(plait::f32, {rows}), lse.numbers(plait::f32, {rows}),
                                       x.numbers(type, {rows, columns})};
                });
            auto want = run_kernel(plait::CrossEntropy{classes}, {logits, targets});
            same({got[0], got[1]}, want);
            if (!gradient) REQUIRE(same_bits(got[2], logits));
            else
                same({got[2]},
                     run_kernel(plait::CrossEntropyGradient{classes}, {logits, targets, want[1], dnll}));
        }
}
