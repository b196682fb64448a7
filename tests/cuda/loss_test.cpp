#include "plait/ops/loss.hpp"
#include "row_runs.hpp"

using namespace tests;

namespace {

/// A loss of rows of logits, its gradient, or both.
struct Ask {
    bool loss = true, gradient = true, in_place = true;
};
struct Rows {
    std::int64_t rows;
    int columns, stride, counted;
};

template <class T>
struct Operands {
    Rows size;
    Numbers logits, targets, dnll;

    /// Logits lie in rows of `stride`, of which the rest is rubbish.
    Operands(Rows s, double scale)
        : size(s),
          logits(dtype_of<T>, {s.rows, s.stride}, 1, scale),
          targets(integers({s.rows}, 0, s.counted)),
          dnll(plait::f32, {s.rows}, 2) {
        for (std::int64_t r = 0; r < s.rows; ++r)
            for (int i = s.columns; i < s.stride; ++i) logits.set(r * s.stride + i, 1e30);
        if (s.rows > 1) targets.set(1, -1);
    }

    Numbers columns(Numbers const& x) const {
        Numbers y({dtype_of<T>, {size.rows, size.columns}});
        for (std::int64_t i = 0; i < y.size(); ++i)
            y.set(i, x(i / size.columns * size.stride + i % size.columns));
        return y;
    }

    /// nll and lse, and dlogits. `shift` as in Memory; a launch by a number of blocks of its own, where that
    /// is not 0.
    template <int size_of_block = 256>
    std::vector<Numbers> run(Ask ask, Numbers const& lse_in, std::int64_t shift, std::int64_t blocks,
                             gpu::Order order = gpu::Order::forward) const {
        Memory<T> x(logits, shift), dx(logits.size(), shift);
        Memory<std::int32_t> t(targets);
        Memory<float> d(dnll), given(lse_in), nll(size.rows), lse(size.rows);
        std::uint32_t fault = 0;
        gpu::LossRows<T, size_of_block> kernel{{.logits = x.get(),
                                                .dlogits = !ask.gradient  ? nullptr
                                                           : ask.in_place ? x.get()
                                                                          : dx.get(),
                                                .targets = t.get(),
                                                .dnll = d.get(),
                                                .lse_in = ask.loss ? nullptr : given.get(),
                                                .nll = nll.get(),
                                                .lse = lse.get(),
                                                .fault = &fault,
                                                .rows = size.rows,
                                                .first = 0,
                                                .stride = size.stride,
                                                .columns = size.columns,
                                                .classes = {0, size.counted, size.columns, size.counted}}};
        gpu::launch(kernel, blocks ? blocks : kernel.blocks(), order);
        REQUIRE(fault == 0);
        std::vector<Numbers> y;
        if (ask.loss)
            y.push_back(nll.numbers(plait::f32, {size.rows})),
                y.push_back(lse.numbers(plait::f32, {size.rows}));
        if (ask.gradient)
            y.push_back(columns((ask.in_place ? x : dx).numbers(logits.meta().dtype, logits.meta().shape)));
        if (!ask.gradient || !ask.in_place)
            REQUIRE(same_bits(x.numbers(logits.meta().dtype, logits.meta().shape), logits));
        return y;
    }
};

/// The kernel against the CPU's: whatever is asked, by any number of blocks, so that a block has one row or
/// several, from any start, the bits are the same.
template <class T, int size_of_block = 256>
void check_rows(Rows size, double scale) {
    CAPTURE(size.rows, size.columns, size.stride, size.counted, scale);
    Operands<T> in(size, scale);
    auto const logits = in.columns(in.logits);
    auto const loss = run_kernel(plait::CrossEntropy{size.counted}, {logits, in.targets});
    auto const gradient =
        run_kernel(plait::CrossEntropyGradient{size.counted}, {logits, in.targets, loss[1], in.dnll});
    auto run = [&](auto... how) { return in.template run<size_of_block>(how...); };

    auto const both = run(Ask{}, loss[1], 0, 0, gpu::Order::forward);
    same(both, {loss[0], loss[1], gradient[0]});
    for (std::int64_t blocks : {std::int64_t{1}, std::int64_t{2}, size.rows + 2})
        for (std::int64_t shift : {0, 1}) {
            CAPTURE(blocks, shift);
            auto const order = shift ? gpu::Order::forward : gpu::Order::backward;
            auto const again = run(Ask{}, loss[1], shift, blocks, order);
            for (std::size_t i = 0; i < both.size(); ++i) REQUIRE(same_bits(again[i], both[i]));
        }
    for (auto order : {gpu::Order::forward, gpu::Order::backward}) {
        auto const alone = run(Ask{.gradient = false}, loss[1], 0, 2, order);
        REQUIRE(same_bits(alone[0], both[0]));
        REQUIRE(same_bits(alone[1], both[1]));
        for (bool in_place : {false, true})
            REQUIRE(
                same_bits(run(Ask{.loss = false, .in_place = in_place}, both[1], 0, 2, order)[0], both[2]));
    }
}

}  // namespace

TEMPLATE_TEST_CASE("cross-entropy and its gradient, of rows that registers hold", "", float, gpu::Bf16) {
    // More rows than blocks, so that a block has a next row, and its rows are not all of one parity.
    check_rows<TestType>({7, 1, 1, 1}, 3);
    check_rows<TestType>({6, 7, 7, 7}, 90);
    check_rows<TestType>({5, 8, 8, 5}, 5);
    check_rows<TestType>({5, 33, 40, 30}, 5);
    check_rows<TestType>({5, 1000, 1024, 999}, 30);
    check_rows<TestType>({3, 8195, 8200, 8195}, 3);
}

TEMPLATE_TEST_CASE("cross-entropy of more classes than registers hold", "", float, gpu::Bf16) {
    constexpr int longest = gpu::LossRows<TestType, 256>::longest;
    check_rows<TestType>({3, longest, longest, longest - 1}, 300);
    check_rows<TestType>({3, longest + 2051, longest + 2064, longest + 2043}, 300);
    check_rows<TestType>({3, longest + 16, longest + 16, longest - 2050}, 3);
}

TEMPLATE_TEST_CASE("cross-entropy by larger blocks", "", float, gpu::Bf16) {
    check_rows<TestType, 512>({3, 4104, 4104, 4099}, 30);
    check_rows<TestType, 1024>({3, 9001, 9008, 9000}, 30);
}

TEMPLATE_TEST_CASE("the row of a loss is shared by as many threads as it is long for", "", float, gpu::Bf16) {
    auto const type = dtype_of<TestType>;
    for (std::int64_t size : {256, 512, 1024})
        for (std::int64_t more : {-8, 8}) {
            auto const columns = size * 8 * gpu::Pack<TestType>::lanes + more;
            CAPTURE(columns);
            Numbers logits(type, {1, columns}, 1, 30);
            auto const targets = integers({1}, 0, columns);
            same(run_row(plait::CrossEntropy{}, {logits, targets}),
                 run_kernel(plait::CrossEntropy{}, {logits, targets}));
        }
}

TEST_CASE("targets that are no class are told by their number, and ignored") {
    std::int32_t targets[] = {2, 7, 6, 9, 0};
    float dnll[] = {1, 1, 1, 1, 1}, nll[5], lse[5];
    for (bool loss : {true, false}) {
        CAPTURE(loss);
        for (auto& x : lse) x = 2;
        std::uint32_t fault = 0;
        Memory<float> logits(Numbers(plait::f32, {5, 8}, 1));
        gpu::LossRows<float, 256> kernel{{.logits = logits.get(),
                                          .dlogits = logits.get(),
                                          .targets = targets,
                                          .dnll = dnll,
                                          .lse_in = loss ? nullptr : lse,
                                          .nll = nll,
                                          .lse = lse,
                                          .fault = &fault,
                                          .rows = 5,
                                          .first = 100,
                                          .stride = 8,
                                          .columns = 8,
                                          .classes = {0, 7, 8, 7}}};
        gpu::launch(kernel, 2);
        REQUIRE(fault == 104);
        if (loss) REQUIRE((nll[1] == 0 && nll[3] == 0 && nll[0] > 0));
        for (int i = 0; i < 40; ++i) REQUIRE((logits[i] != 0) == (i / 8 % 2 == 0 && i % 8 < 7));

        fault = 0;
        kernel.call.rows = 0;
        REQUIRE(kernel.blocks() == 0);
        gpu::launch(kernel, 2);
        REQUIRE(fault == 0);
    }
}

TEMPLATE_TEST_CASE("losses of a block of the classes", "", float, gpu::Bf16) {
    auto type = dtype_of<TestType>;
    constexpr std::int64_t rows = 6, all = 100;
    auto targets = integers({rows}, 0, 90);
    targets.set(2, -1);
    Numbers lse(plait::f32, {rows}, 2), dnll(plait::f32, {rows}, 3);
    std::pair<std::int64_t, std::int64_t> const blocks[] = {{0, 100}, {48, 16}, {80, 20}, {96, 4}};
    for (auto [origin, columns] : blocks)
        for (std::int64_t shift : {0, 1}) {
            CAPTURE(origin, columns, shift);
            Numbers logits(type, {rows, columns}, 1, 3);
            How how{.shift = shift};
            how.in_blocks = {{{0, origin}, {rows, all}}};
            how.in_place = plait::Alias{0, 0};
            plait::CrossEntropyGradient op{90};
            same(run_row(op, {logits, targets, lse, dnll}, how),
                 run_kernel(op, {logits, targets, lse, dnll}, how));
            how.in_place.reset();
            REQUIRE(same_bits(run_row(plait::Pick{90}, {logits, targets}, how)[0],
                              run_kernel(plait::Pick{90}, {logits, targets}, how)[0]));
        }
}
