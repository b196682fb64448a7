#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "row_runs.hpp"

#include <limits>

using namespace tests;
using plait::bf16, plait::f32;

namespace {

struct Sizes {
    std::int64_t tokens, dim, vocab, chunk, classes = 0;
};

struct Inputs {
    Numbers x, w, targets, dnll;
    Inputs(plait::DType t, Sizes const& s)
        : x(t, {s.tokens, s.dim}, 1, 3),
          w(t, {s.vocab, s.dim}, 2),
          targets(integers({s.tokens}, -1, s.classes ? s.classes : s.vocab)),
          dnll(f32, {s.tokens}, 3) {
        for (std::int64_t i = 0; i < s.tokens; i += 5) targets.set(i, -1 - static_cast<double>(i));
        // Rows of padding count for nothing, and from the next multiple of 64 on nobody may read them.
        auto const tile = (s.classes + 63) / 64 * 64 * s.dim;
        for (auto i = s.classes ? s.classes * s.dim : w.size(); i < w.size(); ++i)
            w.set(i, i < tile ? 30.0 : std::numeric_limits<double>::quiet_NaN());
    }
};

void close(std::vector<Numbers> const& got, std::vector<Numbers> const& want, double bound = 1e-5) {
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        INFO("output " << i);
        REQUIRE(got[i].meta() == want[i].meta());
        REQUIRE(difference(got[i], want[i]) <= (want[i].meta().dtype == bf16 ? 0.008 : bound));
    }
}

/// The first `rows` of w.
Numbers first_rows(Numbers const& w, std::int64_t rows) {
    Numbers y({w.meta().dtype, {rows, w.meta().shape[1]}});
    for (std::int64_t i = 0; i < y.size(); ++i) y.set(i, w(i));
    return y;
}

/// dx and dw by the CPU's kernels, of the gradient of logits [tokens, rows of w].
std::vector<Numbers> products_of(Numbers const& dlogits, Numbers const& x, Numbers const& w) {
    using plait::Product, plait::ProductForm;
    return {run_kernel(Product{ProductForm::nn}, {dlogits, w})[0],
            run_kernel(Product{ProductForm::tn}, {dlogits, x})[0]};
}
Numbers logits_of(Inputs const& in, Numbers const& w) {
    return run_kernel(plait::Product{plait::ProductForm::nt}, {in.x, w})[0];
}

/// nll, lse, dx and dw as a GPU makes them: of logits of the operands' dtype.
std::vector<Numbers> loss_of_kept_logits(Inputs const& in, std::int64_t classes) {
    auto const w = classes ? first_rows(in.w, classes) : in.w;
    auto const logits = logits_of(in, w);
    auto y = run_kernel(plait::CrossEntropy{}, {logits, in.targets});
    auto const d = run_kernel(plait::CrossEntropyGradient{}, {logits, in.targets, y[1], in.dnll})[0];
    auto const products = products_of(d, in.x, w);
    y.push_back(products[0]);
    y.emplace_back(plait::Meta{f32, in.w.meta().shape});  // zeros for padding
    for (std::int64_t i = 0; i < products[1].size(); ++i) y[3].set(i, products[1](i));
    return y;
}

double largest_difference(Numbers const& a, Numbers const& b) {
    double far = 0;
    for (std::int64_t i = 0; i < a.size(); ++i) far = std::max(far, std::abs(a(i) - b(i)));
    return far;
}

/// How far bf16 logits can bring a loss from that of f32 ones: half a unit in the last place of the target's,
/// and as much of the others'.
double logits_bound(plait::DType t, Inputs const& in, std::int64_t classes) {
    if (t == f32) return 1e-5;
    auto const logits = logits_of(in, classes ? first_rows(in.w, classes) : in.w);
    double most = 0;
    for (std::int64_t i = 0; i < logits.size(); ++i) most = std::max(most, std::abs(logits(i)));
    return most / 256;
}

}  // namespace

TEST_CASE("a GPU's products of any form, terms and sizes") {
    using plait::ProductForm;
    for (auto t : {f32, bf16})
        for (auto form : {ProductForm::nt, ProductForm::nn, ProductForm::tn})
            for (auto [m, n, k, terms] : {std::array<std::int64_t, 4>{5, 7, 3, 1},
                                          {385, 32769, 1, 2},
                                          {9, 4, 0, 2},
                                          {0, 3, 2, 1},
                                          {1, 33, 40, 2}}) {
                // The one that is cut into rows, a sum of products in bf16.
                if (m == 385 && (form != ProductForm::nt || t != bf16)) continue;
                CAPTURE(plait::name_of(t), plait::name_of(form), m, n, k, terms);
                std::vector<Numbers> in;
                for (std::int64_t i = 0; i < terms; ++i) {
                    auto seed = static_cast<std::uint64_t>(2 * i + 1);
                    bool left = form == ProductForm::tn, right = form == ProductForm::nt;
                    in.emplace_back(t, left ? plait::Shape{k, m} : plait::Shape{m, k}, seed);
                    in.emplace_back(t, right ? plait::Shape{n, k} : plait::Shape{k, n}, seed + 1);
                }
                plait::Product op{form, static_cast<int>(terms)};
                auto want = run_kernel(op, in);
                close({run_row(op, in)}, want);
                How how;
                how.accumulate = 1;
                how.before = {Numbers(want[0].meta().dtype, {m, n}, 99)};
                close(run_row(op, in, how), run_kernel(op, in, how));
            }
}

TEST_CASE("a GPU's sum of products is cut into runs without a sliver") {
    for (auto [rows, runs] : {std::pair<std::int64_t, int>{256, 1}, {257, 1}, {513, 2}}) {
        CAPTURE(rows);
        std::vector<Numbers> in{Numbers(bf16, {rows, 1}, 1), Numbers(bf16, {32769, 1}, 2)};
        in.push_back(in[0]), in.push_back(in[1]);
        auto got = run_rows({{plait::Product{plait::ProductForm::nt, 2}, in}});
        CHECK(got.launches == runs);  // to round each run's sum
        for (auto i : {std::int64_t{0}, 300 * std::int64_t{32769}, got.out[0][0].size() - 1})
            if (i < got.out[0][0].size())
                CHECK(got.out[0][0](i) == Approx(2 * in[0](i / 32769) * in[1](i % 32769)).epsilon(0.01));
    }
}

TEST_CASE("a GPU's linear layers take a bias of either dtype, and no columns") {
    using plait::Epilogue;
    for (auto [t, b] : {std::pair{f32, f32}, std::pair{bf16, f32}, std::pair{bf16, bf16}})
        for (auto epilogue : {Epilogue::bias, Epilogue::bias_gelu})
            for (std::int64_t k : {0, 5}) {
                std::vector<Numbers> in{Numbers(t, {2, 3, k}, 1), Numbers(t, {7, k}, 2), Numbers(b, {7}, 3)};
                close(run_row(plait::Linear{epilogue}, in), run_kernel(plait::Linear{epilogue}, in));
            }
}

TEST_CASE("a GPU's products with GELU's gradient, of any sizes and starts") {
    for (auto t : {f32, bf16})
        for (auto [m, n, k] : {std::array<std::int64_t, 3>{5, 7, 3}, {9, 4, 0}, {0, 3, 2}, {33, 40, 24}})
            for (std::int64_t shift : {0, 1}) {
                CAPTURE(plait::name_of(t), m, n, k, shift);
                std::vector<Numbers> in{Numbers(t, {m, k}, 1), Numbers(t, {k, n}, 2),
                                        Numbers(t, {m, n}, 3, 3)};
                How how;
                how.shift = shift;
                auto got = run_row(plait::ProductGeluGradient{}, in, how);
                close(got, run_kernel(plait::ProductGeluGradient{}, in));
                if (m > 0 && k > 0)
                    CHECK(difference(got[0], run_kernel(plait::Product{plait::ProductForm::nn},
                                                        {in[0], in[1]})[0]) > 0.1);
            }
}

TEST_CASE("a GPU's chunked loss") {
    for (auto t : {f32, bf16})
        for (auto const& s : {Sizes{1, 4, 3, 1024}, Sizes{5, 16, 33, 2}, Sizes{3, 20, 4201, 2},
                              Sizes{0, 4, 3, 2}, Sizes{7, 8, 40, 4, 29}, Sizes{6, 8, 140, 4, 69}}) {
            CAPTURE(plait::name_of(t), s.tokens, s.dim, s.vocab, s.chunk);
            Inputs in(t, s);
            plait::LinearCrossEntropyStep step{s.chunk, s.classes};
            std::vector<Numbers> first{in.x, in.w, in.targets, in.dnll};
            auto const f32_logits = run_kernel(step, first);
            auto const want = t == f32 ? f32_logits : loss_of_kept_logits(in, s.classes);
            auto const got = run_row(step, first);
            close(got, want);
            auto const far = logits_bound(t, in, s.classes);
            for (std::size_t k = 0; k < 2; ++k) CHECK(largest_difference(got[k], f32_logits[k]) <= far);

            auto const loss =
                run_row(plait::LinearCrossEntropy{s.chunk, s.classes}, {in.x, in.w, in.targets});
            std::vector<Numbers> all{in.x, in.w, in.targets, got[1], in.dnll};
            auto const gradient = run_row(plait::LinearCrossEntropyGradient{s.chunk, s.classes}, all);
            for (std::size_t k = 0; k < 2; ++k) {
                CHECK(same_bits(loss[k], got[k]));
                CHECK(same_bits(gradient[k], got[k + 2]));
            }

            How how;
            how.accumulate = 0b1000;
            for (auto const& y : want) how.before.emplace_back(y.meta().dtype, y.meta().shape, 9);
            auto sum = want;
            for (std::int64_t i = 0; i < sum[3].size(); ++i) sum[3].set(i, want[3](i) + how.before[3](i));
            close(run_row(step, first, how), sum);
        }
}

TEST_CASE("blocks of a vocabulary on a GPU") {
    for (auto t : {f32, bf16})
        for (auto [tokens, vocab, blocks, classes] :
             {std::array<std::int64_t, 4>{4, 33, 3, 0}, {3, 40, 4, 21}, {2, 24, 1, 0}}) {
            CAPTURE(plait::name_of(t), vocab, blocks, classes);
            Inputs in(t, {tokens, 12, vocab, 3, classes});
            plait::LinearLossBlocks op{3, classes, blocks};
            auto want = run_kernel(op, {in.x, in.w, in.targets}),
                 whole = run_row(op, {in.x, in.w, in.targets});
            // Infinities stand in the same places; others are as far off as half a logit's last place.
            auto const far = logits_bound(t, in, classes);
            for (std::size_t k = 0; k < 2; ++k)
                for (std::int64_t i = 0; i < want[k].size(); ++i) {
                    if (std::isinf(want[k](i))) CHECK(whole[k](i) == want[k](i));
                    else CHECK(std::abs(whole[k](i) - want[k](i)) <= far);
                }
            // Each block where it is made, and its gradients. Padding is zeros there.
            for (std::int64_t b = 0; b < blocks; ++b) {
                auto const rows = vocab / blocks;
                Numbers w({t, {rows, 12}});
                for (std::int64_t i = 0; i < w.size(); ++i) {
                    auto x = in.w(b * w.size() + i);
                    w.set(i, std::isnan(x) ? 0 : x);
                }
                How how;
                how.in_blocks = {{}, {{b * rows, 0}, {vocab, 12}}};
                auto one = run_row(plait::LinearLossBlocks{3, classes, 1}, {in.x, w, in.targets}, how);
                for (std::size_t k = 0; k < 2; ++k)
                    for (std::int64_t i = 0; i < tokens; ++i) CHECK(one[k](i) == whole[k](i * blocks + b));
                Numbers lse(f32, {tokens}, 5);
                plait::LinearCrossEntropyGradient gradient{3, classes};
                std::vector<Numbers> all{in.x, w, in.targets, lse, in.dnll};
                How part;  // of the logits
                part.in_blocks = {{{0, b * rows}, {tokens, vocab}}};
                auto const d = run_kernel(plait::CrossEntropyGradient{classes},
                                          {logits_of(in, w), in.targets, lse, in.dnll}, part)[0];
                close(run_row(gradient, all, how),
                      t == f32 ? run_kernel(gradient, all, how) : products_of(d, in.x, w));
            }
        }
}

TEST_CASE("a target beyond the classes is a fault of its token on a GPU") {
    Sizes s{9, 4, 11, 4, 10};
    Inputs in(f32, s);
    in.targets.set(6, 10);
    for (auto const& op : {plait::AnyOp(plait::LinearCrossEntropy{s.chunk, s.classes}),
                           plait::AnyOp(plait::LinearLossBlocks{s.chunk, s.classes, 1})})
        try {
            run_row(op, {in.x, in.w, in.targets});
            FAIL("not noticed");
        } catch (plait::DeviceFault const& fault) {
            CHECK(std::string(fault.what()).find("element 6") != std::string::npos);
        }
}
