#include "plait/ops/matmul.hpp"

#include "plait/ops/elementwise.hpp"

#include "catch.hpp"
#include "kernel_cases.hpp"

using namespace plait;
using namespace tests;

namespace {

struct Form {
    bool transpose_a, transpose_b;
};
Form form_of(ProductForm f) { return {f == ProductForm::tn, f == ProductForm::nt}; }

// The product of matrices in double, added to y[m, n].
void add_product(Form f, Numbers const& a, Numbers const& b, std::int64_t m, std::int64_t n, std::int64_t k,
                 std::vector<double>& y, std::int64_t a_first = 0, std::int64_t b_first = 0,
                 std::int64_t y_first = 0) {
    for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < n; ++j)
            for (std::int64_t l = 0; l < k; ++l)
                y[static_cast<std::size_t>(y_first + i * n + j)] +=
                    a(a_first + (f.transpose_a ? l * m + i : i * k + l)) *
                    b(b_first + (f.transpose_b ? j * k + l : l * n + j));
}

// The largest error, in units that a result of the dtype may be off.
double error(Numbers const& got, std::vector<double> const& want) {
    double worst = 0, size = 1;
    for (auto w : want) size = std::max(size, std::abs(w));
    auto t = got.meta().dtype;
    for (std::int64_t i = 0; i < got.size(); ++i) {
        auto w = want[static_cast<std::size_t>(i)];
        double unit = t == bf16 ? 0.004 * std::abs(w) + 1e-5 * size : (t == f32 ? 2e-6 : 1e-14) * size;
        worst = std::max(worst, std::abs(got(i) - w) / unit);
    }
    return worst;
}

struct Sizes {
    std::int64_t tokens, n, k;
};
constexpr Sizes product_sizes[] = {{1, 1, 1},     {1, 700, 33},    {3, 5, 7},     {40, 600, 64},
                                   {129, 65, 70}, {300, 260, 130}, {1100, 70, 40}};

Numbers matrix(DType t, Shape shape, std::uint64_t seed) { return Numbers(t, shape, seed); }

// Inputs of a product; the leading dims are [tokens], or with `parts` [parts, tokens / parts].
std::vector<Numbers> operands(ProductForm form, int terms, DType t, Sizes s, std::int64_t parts) {
    std::vector<Numbers> in;
    auto lead = [&](std::int64_t last) {
        return parts ? Shape{parts, s.tokens / parts, last} : Shape{s.tokens, last};
    };
    for (int i = 0; i < terms; ++i) {
        auto seed = static_cast<std::uint64_t>(10 * i);
        in.push_back(matrix(t, lead(form == ProductForm::nt ? s.k : s.n), seed + 1));
        in.push_back(matrix(t, form == ProductForm::tn ? lead(s.k) : Shape{s.n, s.k}, seed + 2));
    }
    return in;
}

Sizes as_mnk(ProductForm form, Sizes s) {
    if (form == ProductForm::nt) return {s.tokens, s.n, s.k};
    if (form == ProductForm::nn) return {s.tokens, s.k, s.n};
    return {s.n, s.k, s.tokens};
}

constexpr ProductForm forms[] = {ProductForm::nt, ProductForm::nn, ProductForm::tn};
constexpr DType dtypes[] = {f32, bf16, f64};

}  // namespace

TEST_CASE("product gives the sum of its terms in every form and dtype") {
    for (auto form : forms)
        for (auto t : dtypes)
            for (int terms : {1, 3})
                for (bool add : {false, true})
                    for (auto s : product_sizes) {
                        CAPTURE(name_of(form), name_of(t), terms, add, s.tokens, s.n, s.k);
                        auto in = operands(form, terms, t, s, s.tokens % 3 ? 0 : 3);
                        auto [m, n, k] = as_mnk(form, s);
                        Product op{form, terms};
                        Metas metas;
                        for (auto const& x : in) metas.push_back(x.meta());
                        How how;
                        std::vector<double> want(static_cast<std::size_t>(m * n));
                        if (add) {
                            how.accumulate = 1;
                            how.before.push_back(
                                Numbers(op.infer(metas)[0].dtype, op.infer(metas)[0].shape, 99));
                            for (std::int64_t i = 0; i < m * n; ++i)
                                want[static_cast<std::size_t>(i)] = how.before[0](i);
                        }
                        for (int i = 0; i < terms; ++i)
                            add_product(form_of(form), in[static_cast<std::size_t>(2 * i)],
                                        in[static_cast<std::size_t>(2 * i + 1)], m, n, k, want);
                        CHECK(error(run_kernel(op, in, how)[0], want) < 1);
                    }
}

TEST_CASE("product takes terms of different depth") {
    for (auto t : dtypes) {
        std::vector<Numbers> in{matrix(t, {90, 64}, 1), matrix(t, {40, 64}, 2), matrix(t, {90, 16}, 3),
                                matrix(t, {40, 16}, 4)};
        std::vector<double> want(90 * 40);
        add_product({false, true}, in[0], in[1], 90, 40, 64, want);
        add_product({false, true}, in[2], in[3], 90, 40, 16, want);
        CHECK(error(run_kernel(Product{ProductForm::nt, 2}, in)[0], want) < 1);
        std::vector<Numbers> tn{matrix(t, {700, 40}, 1), matrix(t, {700, 30}, 2), matrix(t, {2, 20, 40}, 3),
                                matrix(t, {2, 20, 30}, 4)};
        std::vector<double> sum(40 * 30);
        add_product({true, false}, tn[0], tn[1], 40, 30, 700, sum);
        add_product({true, false}, tn[2], tn[3], 40, 30, 40, sum);
        CHECK(error(run_kernel(Product{ProductForm::tn, 2}, tn)[0], sum) < 1);
    }
}

TEST_CASE("adding to a product has the bits of a product and a sum") {
    for (auto form : forms)
        for (auto t : {f32, f64})
            for (auto s : product_sizes) {
                CAPTURE(name_of(form), name_of(t), s.tokens, s.n, s.k);
                auto in = operands(form, 1, t, s, 0);
                Product op{form, 1};
                auto apart = run_kernel(op, in)[0];
                How how;
                how.accumulate = 1;
                how.before.push_back(Numbers(t, apart.meta().shape, 99));
                auto added = run_kernel(op, in, how)[0];
                bool same = true;
                for (std::int64_t i = 0; i < apart.size(); ++i) {
                    double sum = how.before[0](i) + apart(i);
                    same =
                        same && added(i) == (t == f32 ? static_cast<double>(static_cast<float>(sum)) : sum);
                }
                CHECK(same);
            }
}

TEST_CASE("the number of workers does not change the bits of products") {
    for (auto form : forms)
        for (auto t : dtypes)
            for (auto s : product_sizes) {
                auto in = operands(form, 2, t, s, 0);
                How how;
                how.workers = 1;
                auto want = run_kernel(Product{form, 2}, in, how);
                for (int workers : {2, 4}) {
                    how.workers = workers;
                    CHECK(same_bits(run_kernel(Product{form, 2}, in, how)[0], want[0]));
                }
            }
}

TEST_CASE("a row of a product of few rows has the bits that it has alone") {
    auto row_of = [](Numbers const& x, std::int64_t row, std::int64_t rows) {
        auto width = x.size() / rows;
        Numbers one(Meta{x.meta().dtype, {1, width}});
        auto bytes = static_cast<std::size_t>(one.meta().bytes());
        std::memcpy(one.data(), x.data() + static_cast<std::size_t>(row) * bytes, bytes);
        return one;
    };
    for (auto isa : {cpu::Isa::base, cpu::best_isa()})
        for (auto t : dtypes)
            for (auto [rows, n, k] :
                 {Sizes{2, 7, 5}, Sizes{5, 300, 130}, Sizes{32, 66, 257}, Sizes{31, 1000, 200}}) {
                CAPTURE(cpu::name_of(isa), name_of(t), rows, n, k);
                How how;
                how.isa = isa;
                auto in = operands(ProductForm::nt, 1, t, {rows, n, k}, 0);
                auto biased = in;
                biased.push_back(Numbers(t, {n}, 7));
                auto y = run_kernel(Product{}, in, how)[0];
                auto z = run_kernel(Linear{Epilogue::bias_gelu}, biased, how)[0];
                for (std::int64_t r = 0; r < rows; ++r) {
                    auto x = row_of(in[0], r, rows);
                    CHECK(same_bits(run_kernel(Product{}, {x, in[1]}, how)[0], row_of(y, r, rows)));
                    CHECK(same_bits(run_kernel(Linear{Epilogue::bias_gelu}, {x, in[1], biased[2]}, how)[0],
                                    row_of(z, r, rows)));
                }
                CHECK(!same_bits(row_of(y, 0, rows), row_of(y, rows - 1, rows)));
            }
}

TEST_CASE("linear adds the bias and bends") {
    for (auto t : dtypes)
        for (auto bias : {t, t == bf16 ? f32 : t})
            for (auto s : product_sizes) {
                CAPTURE(name_of(t), name_of(bias), s.tokens, s.n, s.k);
                auto in = operands(ProductForm::nt, 1, t, s, 0);
                in.push_back(Numbers(bias, {s.n}, 7));
                std::vector<double> want(static_cast<std::size_t>(s.tokens * s.n)), bent = want;
                for (std::size_t i = 0; i < want.size(); ++i)
                    want[i] = in[2](static_cast<std::int64_t>(i) % s.n);
                add_product({false, true}, in[0], in[1], s.tokens, s.n, s.k, want);
                for (std::size_t i = 0; i < want.size(); ++i)
                    bent[i] = want[i] / 2 *
                              (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) *
                                             (want[i] + 0.044715 * want[i] * want[i] * want[i])));
                CHECK(error(run_kernel(Linear{Epilogue::bias}, in)[0], want) < 1);
                auto y = run_kernel(Linear{Epilogue::bias_gelu}, in);
                CHECK(error(y[0], bent) < 2);
                CHECK(error(y[1], want) < 1);
                How one;
                one.workers = 1;
                CHECK(same_bits(run_kernel(Linear{Epilogue::bias_gelu}, in, one)[0], y[0]));
            }
}

TEST_CASE("a product with GELU's gradient has the bits of the two ops") {
    for (auto t : dtypes)
        for (auto s : product_sizes)
            for (auto isa : {cpu::Isa::base, cpu::best_isa()}) {
                CAPTURE(name_of(t), s.tokens, s.n, s.k, cpu::name_of(isa));
                auto in = operands(ProductForm::nn, 1, t, s, 0);
                How how;
                how.isa = isa;
                auto dy = run_kernel(Product{ProductForm::nn}, in, how)[0];
                in.push_back(Numbers(t, {s.tokens, s.k}, 7, 3));
                auto want = run_kernel(UnaryGradient{UnaryFn::gelu}, {in[2], dy}, how)[0];
                CHECK(!same_bits(want, dy));
                for (int workers : {1, 4}) {
                    how.workers = workers;
                    CHECK(same_bits(run_kernel(ProductGeluGradient{}, in, how)[0], want));
                }
            }
}

TEST_CASE("matmul multiplies batches, with either operand transposed") {
    for (auto t : dtypes)
        for (bool ta : {false, true})
            for (bool tb : {false, true})
                for (auto [m, n, k] :
                     {Sizes{1, 1, 1}, Sizes{7, 9, 5}, Sizes{70, 130, 33}, Sizes{200, 20, 600}}) {
                    CAPTURE(name_of(t), ta, tb, m, n, k);
                    std::vector<Numbers> in{matrix(t, ta ? Shape{2, 3, k, m} : Shape{2, 3, m, k}, 1),
                                            matrix(t, tb ? Shape{2, 3, n, k} : Shape{2, 3, k, n}, 2)};
                    std::vector<double> want(static_cast<std::size_t>(6 * m * n));
                    for (int i = 0; i < 6; ++i)
                        add_product({ta, tb}, in[0], in[1], m, n, k, want, i * m * k, i * k * n, i * m * n);
                    How how;
                    auto y = run_kernel(MatMul{ta, tb}, in, how);
                    CHECK(error(y[0], want) < 1);
                    how.workers = 1;
                    CHECK(same_bits(run_kernel(MatMul{ta, tb}, in, how)[0], y[0]));
                }
}
