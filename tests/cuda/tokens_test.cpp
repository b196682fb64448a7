#include "plait/ops/embedding.hpp"
#include "plait/ops/loss.hpp"
#include "row_runs.hpp"

#include <algorithm>

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

TEST_CASE("tokens that are none are told") {
    std::int32_t tokens[] = {3, -1, 4, 2};
    std::uint32_t fault = 0;
    Memory<float> table(Numbers(plait::f32, {4, 8}, 1)), y(32);
    gpu::Embedding<float> rows{tokens, table.get(), y.get(), &fault, 4, 0, 4, 4, 8};
    gpu::launch(rows, rows.blocks());
    REQUIRE(fault == 3);
    for (int i = 8; i < 24; ++i) REQUIRE(y[i] == 0);
    REQUIRE(y[24] == table[16]);
}

TEMPLATE_TEST_CASE("an embedding's gradient sums each row in the order of tokens", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    struct {
        std::int64_t count, vocab, origin, rows, dim, shift;
    } const shapes[] = {{1, 1, 0, 1, 1, 0},        {40, 7, 0, 7, 33, 1},          {300, 40, 16, 16, 300, 0},
                        {2300, 600, 0, 600, 5, 0}, {500, 90000, 40000, 45, 3, 0}, {130, 2, 0, 2, 264, 0},
                        {200, 600, 100, 500, 8, 1}};
    for (auto [count, vocab, origin, rows, dim, shift] : shapes)
        for (bool accumulate : {false, true}) {
            CAPTURE(count, vocab, origin, rows, dim, shift, accumulate);
            auto tokens = integers({count}, 0, vocab);
            if (vocab == 90000)  // most of them in the block
                for (std::int64_t i = 0; i < count; i += 2)
                    tokens.set(i, static_cast<double>(origin + i % rows));
            Numbers dy(type, {count, dim}, 1), table({type, {rows, dim}});
            How how{
                .accumulate = accumulate, .before = {Numbers(plait::f32, {rows, dim}, 2)}, .shift = shift};
            how.out_blocks = {{{origin, 0}, {vocab, dim}}};
            auto got = run_row(plait::EmbeddingGradient{}, {tokens, dy, table}, how);
            auto want = run_kernel(plait::EmbeddingGradient{}, {tokens, dy, table}, how);
            same(got, want);
            // Rows of a few tokens are summed as on the CPU.
            if (count <= 40) REQUIRE(same_bits(got[0], want[0]));
        }
}

TEST_CASE("pairs are sorted stably, in tiles that are not full too") {
    constexpr std::int64_t count = 2500, vocab = 700;
    auto tokens = integers({count}, 0, vocab);
    for (std::int64_t i = 0; i < 900; ++i) tokens.set(i, 3);
    for (auto order : {gpu::Order::forward, gpu::Order::backward}) {
        Memory<std::int32_t> t(tokens);
        Memory<std::uint64_t> a(count), b(count);
        std::uint32_t fault = 0;
        gpu::TokenPairs from{.tokens = t.get(),
                             .pairs = nullptr,
                             .count = count,
                             .origin = 0,
                             .rows = vocab,
                             .vocab = vocab,
                             .tile = gpu::TokenPairs::tile_of(count),
                             .shift = 0,
                             .bits = 5};
        Memory<std::uint32_t> counts(from.tiles() * gpu::RadixCount::digits);
        for (auto* to : {a.get(), b.get()}) {
            gpu::RadixCount first{from, &fault, counts.get()};
            gpu::launch(first, first.blocks(), order);
            gpu::RadixScatter second{from, counts.get(), to};
            gpu::launch(second, second.blocks(), order);
            from.pairs = to;
            from.shift += 5;
        }
        std::vector<std::uint64_t> want;
        for (std::int64_t i = 0; i < count; ++i)
            want.push_back(static_cast<std::uint64_t>(t[i]) << 32 | static_cast<std::uint64_t>(i));
        std::sort(want.begin(), want.end());
        REQUIRE(std::equal(want.begin(), want.end(), b.get()));
        REQUIRE(fault == 0);
    }
}

TEST_CASE("a row tells tokens and classes that are none") {
    Numbers logits(plait::f32, {3, 8}, 1), lse(plait::f32, {3}, 2), table(plait::f32, {5, 8}, 3);
    auto wrong = integers({3}, 0, 5);
    wrong.set(1, 6);
    std::pair<plait::AnyOp, std::vector<Numbers>> const calls[] = {
        {plait::CrossEntropy{6}, {logits, wrong}},
        {plait::CrossEntropyGradient{6}, {logits, wrong, lse, lse}},
        {plait::Pick{6}, {logits, wrong}},
        {plait::Embedding{}, {wrong, table}},
        {plait::EmbeddingGradient{}, {wrong, logits, table}}};
    for (auto const& [op, in] : calls) {
        CAPTURE(op.name());
        REQUIRE_THROWS_WITH(run_rows({{op, in}}), ContainsSubstring("at element 1"));
        auto right = in;
        for (auto& x : right)
            if (x.meta().dtype == plait::i32) x = integers({3}, 0, 5);
        REQUIRE_NOTHROW(run_rows({{op, right}}));
    }
    REQUIRE_THROWS_WITH(run_rows({{plait::Pick{}, {Numbers(plait::f64, {3, 8}, 1), wrong}}}),
                        ContainsSubstring("a GPU has no kernel for f64"));
}
