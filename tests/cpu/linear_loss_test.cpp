#include "plait/ops/loss.hpp"

#include "catch.hpp"
#include "kernel_cases.hpp"

#include <cmath>
#include <limits>

using namespace plait;
using namespace tests;

namespace {

struct Sizes {
    std::int64_t tokens, dim, vocab, chunk;
};
constexpr Sizes cases[] = {
    {1, 4, 3, 1024}, {10, 16, 33, 4}, {70, 20, 300, 70}, {150, 24, 129, 64}, {300, 8, 1000, 130}};

struct Inputs {
    Numbers x, w, targets, dnll;
    Inputs(DType t, Sizes const& s)
        : x(t, {s.tokens, s.dim}, 1, 3),
          w(t, {s.vocab, s.dim}, 2),
          targets(integers({s.tokens}, -1, s.vocab)),
          dnll(t == f64 ? f64 : f32, {s.tokens}, 3) {
        for (std::int64_t i = 0; i < s.tokens; i += 5) targets.set(i, -1 - static_cast<double>(i));
    }
};

struct Results {
    std::vector<double> nll, lse, dx, dw;
};
Results reference(Sizes const& s, Inputs const& in) {
    auto n = [](std::int64_t i) { return static_cast<std::size_t>(i); };
    Results r{std::vector<double>(n(s.tokens)), std::vector<double>(n(s.tokens)),
              std::vector<double>(n(s.tokens * s.dim)), std::vector<double>(n(s.vocab * s.dim))};
    std::vector<double> logits(n(s.vocab));
    for (std::int64_t i = 0; i < s.tokens; ++i) {
        double total = 0;
        for (std::int64_t v = 0; v < s.vocab; ++v) {
            logits[n(v)] = 0;
            for (std::int64_t d = 0; d < s.dim; ++d)
                logits[n(v)] += in.x(i * s.dim + d) * in.w(v * s.dim + d);
            total += std::exp(logits[n(v)]);
        }
        auto target = static_cast<std::int64_t>(in.targets(i));
        r.lse[n(i)] = std::log(total);
        if (target < 0) continue;
        r.nll[n(i)] = r.lse[n(i)] - logits[n(target)];
        for (std::int64_t v = 0; v < s.vocab; ++v) {
            double d = (std::exp(logits[n(v)]) / total - (v == target)) * in.dnll(i);
            for (std::int64_t e = 0; e < s.dim; ++e) {
                r.dx[n(i * s.dim + e)] += d * in.w(v * s.dim + e);
                r.dw[n(v * s.dim + e)] += d * in.x(i * s.dim + e);
            }
        }
    }
    return r;
}

double error(Numbers const& got, std::vector<double> const& want) {
    double far = 0, big = 1e-3;
    for (auto w : want) big = std::max(big, std::abs(w));
    for (std::int64_t i = 0; i < got.size(); ++i) {
        auto e = std::abs(got(i) - want[static_cast<std::size_t>(i)]);
        if (!(e <= far)) far = e;
    }
    return far / big;
}

}  // namespace

TEST_CASE("the chunked loss and its gradients agree with their definition") {
    for (auto [t, tolerance] : {std::pair{f32, 1e-5}, std::pair{bf16, 2e-2}, std::pair{f64, 1e-12}})
        for (auto const& s : cases) {
            CAPTURE(name_of(t), s.tokens, s.dim, s.vocab, s.chunk);
            Inputs in(t, s);
            auto want = reference(s, in);
            auto loss = run_kernel(LinearCrossEntropy{s.chunk}, {in.x, in.w, in.targets});
            CHECK(error(loss[0], want.nll) < std::min(tolerance, 1e-5));
            CHECK(error(loss[1], want.lse) < std::min(tolerance, 1e-5));
            for (std::int64_t i = 0; i < s.tokens; ++i) CHECK((in.targets(i) >= 0 || loss[0](i) == 0));
            auto d =
                run_kernel(LinearCrossEntropyGradient{s.chunk}, {in.x, in.w, in.targets, loss[1], in.dnll});
            CHECK(error(d[0], want.dx) < tolerance);
            CHECK(error(d[1], want.dw) < tolerance);
            auto step = run_kernel(LinearCrossEntropyStep{s.chunk}, {in.x, in.w, in.targets, in.dnll});
            CHECK(same_bits(step[0], loss[0]));
            CHECK(same_bits(step[1], loss[1]));
            CHECK(same_bits(step[2], d[0]));
            CHECK(same_bits(step[3], d[1]));
        }
}

TEST_CASE("the chunked loss adds to the weight's gradient") {
    for (auto t : {f32, bf16, f64})
        for (auto const& s : cases) {
            Inputs in(t, s);
            auto apart = run_kernel(LinearCrossEntropyStep{s.chunk}, {in.x, in.w, in.targets, in.dnll});
            How how;
            how.accumulate = 0b1000;
            how.before = apart;
            auto added = run_kernel(LinearCrossEntropyStep{s.chunk}, {in.x, in.w, in.targets, in.dnll}, how);
            for (std::size_t i = 0; i < 3; ++i) CHECK(same_bits(added[i], apart[i]));
            std::vector<double> twice;
            for (std::int64_t i = 0; i < apart[3].size(); ++i) twice.push_back(2 * apart[3](i));
            CHECK(error(added[3], twice) < (t == f64 ? 1e-12 : 1e-5));
        }
}

TEST_CASE("the number of workers does not change the bits of the chunked loss") {
    for (auto t : {f32, bf16, f64})
        for (auto const& s : cases) {
            Inputs in(t, s);
            How how;
            how.workers = 1;
            auto want = run_kernel(LinearCrossEntropyStep{s.chunk}, {in.x, in.w, in.targets, in.dnll}, how);
            for (int workers : {2, 4}) {
                how.workers = workers;
                auto got =
                    run_kernel(LinearCrossEntropyStep{s.chunk}, {in.x, in.w, in.targets, in.dnll}, how);
                for (std::size_t i = 0; i < 4; ++i) CHECK(same_bits(got[i], want[i]));
            }
        }
}

TEST_CASE("blocks of the vocabulary make up its loss and gradients, wherever they are made") {
    struct Row {
        Sizes sizes;
        std::int64_t blocks, classes;
    };
    for (auto [t, tolerance] : {std::pair{f32, 1e-5}, std::pair{bf16, 2e-2}, std::pair{f64, 1e-12}})
        for (auto const& [s, blocks, classes] : {Row{{10, 16, 33, 4}, 3, 0}, Row{{150, 24, 132, 64}, 4, 129},
                                                 Row{{70, 20, 300, 70}, 6, 97}, Row{{1, 4, 6, 9}, 6, 0}}) {
            CAPTURE(name_of(t), s.tokens, s.vocab, blocks, classes);
            auto const counted = classes ? classes : s.vocab;
            Inputs in(t, {s.tokens, s.dim, counted, s.chunk});
            // Rows of padding, which nobody may read who has the whole.
            Numbers w(t, {s.vocab, s.dim}, 2);
            for (std::int64_t i = 0; i < w.size(); ++i)
                w.set(i, i < counted * s.dim ? in.w(i) : std::numeric_limits<double>::quiet_NaN());
            auto want = reference({s.tokens, s.dim, counted, s.chunk}, in);
            auto const rows = s.vocab / blocks, n = rows * s.dim;
            auto together = run_kernel(LinearLossBlocks{s.chunk, classes, blocks}, {in.x, w, in.targets});
            Numbers lse(Meta{t == f64 ? f64 : f32, {s.tokens}});
            for (std::int64_t i = 0; i < s.tokens; ++i) lse.set(i, want.lse[static_cast<std::size_t>(i)]);
            std::vector<double> dx(want.dx.size()), total(static_cast<std::size_t>(s.tokens)), dw;
            for (std::int64_t b = 0; b < blocks; ++b) {
                Numbers block(Meta{t, {rows, s.dim}});
                for (std::int64_t i = 0; i < n; ++i)
                    block.set(i, b * n + i < counted * s.dim ? w(b * n + i) : 0);
                How how;
                how.in_blocks = {{}, {{b * rows, 0}, {s.vocab, s.dim}}};
                auto one = run_kernel(LinearLossBlocks{s.chunk, classes, 1}, {in.x, block, in.targets}, how);
                for (std::int64_t i = 0; i < s.tokens; ++i) {
                    auto const target = static_cast<std::int64_t>(in.targets(i));
                    total[static_cast<std::size_t>(i)] += std::exp(one[0](i));
                    CHECK(together[0](i * blocks + b) == Approx(one[0](i)).epsilon(1e-5));
                    CHECK((std::isinf(one[1](i)) || target / rows == b));
                    if (target < 0 || target / rows != b) continue;
                    auto const nll = want.lse[static_cast<std::size_t>(i)] - one[1](i);
                    CHECK(nll == Approx(want.nll[static_cast<std::size_t>(i)]).margin(1e-4));
                    CHECK(together[1](i * blocks + b) == Approx(one[1](i)).epsilon(1e-5));
                }
                auto d = run_kernel(LinearCrossEntropyGradient{s.chunk, classes},
                                    {in.x, block, in.targets, lse, in.dnll}, how);
                for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += d[0](static_cast<std::int64_t>(i));
                for (std::int64_t i = 0; i < n; ++i) dw.push_back(d[1](i));
            }
            auto numbers = [](std::vector<double> const& values) {
                Numbers n(Meta{f64, {static_cast<std::int64_t>(values.size())}});
                for (std::size_t i = 0; i < values.size(); ++i)
                    n.set(static_cast<std::int64_t>(i), values[i]);
                return n;
            };
            for (auto& x : total) x = std::log(x);
            want.dw.resize(static_cast<std::size_t>(s.vocab * s.dim));
            CHECK(error(numbers(total), want.lse) < std::min(tolerance, 1e-5));
            CHECK(error(numbers(dx), want.dx) < tolerance);
            CHECK(error(numbers(dw), want.dw) < tolerance);
        }
}

TEST_CASE("a block with padding stays within the workspace that was planned for it") {
    // run_kernel has a guard behind it. Tiles get taller as products get smaller.
    for (auto t : {f32, bf16, f64})
        for (std::int64_t rows : {192, 256})
            for (std::int64_t counted : {0, 1, 33, 108, 191}) {
                Sizes const s{32, 256, rows, 1024};
                Inputs in(t, s);
                for (std::int64_t i = 0; i < s.tokens; ++i) in.targets.set(i, static_cast<double>(i % 7));
                auto before =
                    run_kernel(LinearCrossEntropyGradient{}, {in.x, in.w, in.targets, in.dnll, in.dnll});
                for (std::uint32_t accumulate : {0u, 2u}) {
                    How how;
                    how.accumulate = accumulate, how.before = before;
                    how.in_blocks = {{}, {{rows, 0}, {2 * rows, s.dim}}};
                    auto const classes = rows + counted;
                    CHECK_NOTHROW(run_kernel(LinearCrossEntropyGradient{1024, classes},
                                             {in.x, in.w, in.targets, in.dnll, in.dnll}, how));
                    CHECK_NOTHROW(
                        run_kernel(LinearLossBlocks{1024, classes, 1}, {in.x, in.w, in.targets}, how));
                }
            }
}

TEST_CASE("a target outside the vocabulary is an error") {
    Inputs in(f32, cases[1]);
    in.targets.set(3, 33);
    CHECK_THROWS_WITH(run_kernel(LinearCrossEntropy{4}, {in.x, in.w, in.targets}), ContainsSubstring("33"));
    CHECK_THROWS_WITH(run_kernel(LinearLossBlocks{4, 0, 3}, {in.x, in.w, in.targets}),
                      ContainsSubstring("33"));
}
