#include "catch.hpp"
#include "kernel_cases.hpp"
#include "plait/cpu/gemm.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"

#include <vector>

using namespace plait;
using tests::Numbers;

// Ops whose rules say by_shape promise this much: calls of one shape give the same bits wherever their
// operands lie and however many workers there are.

namespace {

struct Types {
    DType in, out;
};
constexpr Types types[] = {{DType::f32, DType::f32},
                           {DType::bf16, DType::bf16},
                           {DType::bf16, DType::f32},
                           {DType::f64, DType::f64}};

/// Sizes and gaps that are mostly odd, and now and then whole blocks of the libraries.
class Draw {
  public:
    explicit Draw(std::uint64_t seed) : random_{seed} {}
    std::int64_t operator()(std::int64_t least, std::int64_t most) {
        auto word = static_cast<std::int64_t>(random_.word(n_++));
        return least + word % (most - least + 1);
    }
    std::int64_t size() {
        auto kind = (*this)(0, 3);
        return kind == 0 ? 32 * (*this)(1, 8) : kind == 1 ? (*this)(1, 9) : (*this)(1, 300);
    }

  private:
    Random random_;
    std::uint64_t n_ = 0;
};

/// Gives the product of `g` for operands that begin `shift` elements after a cache line: rows are dense in
/// what is returned, and as far apart in memory as g's strides say.
std::vector<std::byte> product_at(GemmShape const& g, std::int64_t shift) {
    auto matrix = [&](DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride, int seed) {
        Numbers dense(type, {rows, columns}, static_cast<std::uint64_t>(seed));
        Numbers room({type, {shift + rows * stride + 64}});
        auto offset = static_cast<std::size_t>(bytes_of(type, shift));
        for (std::int64_t i = 0; i < rows; ++i)
            std::memcpy(room.data() + offset + bytes_of(type, i * stride),
                        dense.data() + bytes_of(type, i * columns),
                        static_cast<std::size_t>(bytes_of(type, columns)));
        return room;
    };
    auto a = g.transpose_a ? matrix(g.in, g.k, g.m, g.lda, 1) : matrix(g.in, g.m, g.k, g.lda, 1);
    auto b = g.transpose_b ? matrix(g.in, g.n, g.k, g.ldb, 2) : matrix(g.in, g.k, g.n, g.ldb, 2);
    auto c = matrix(g.out, g.m, g.n, g.ldc, 3);
    Numbers workspace({u8, {gemm_workspace(g) + 64}});
    gemm(g, a.data() + bytes_of(g.in, shift), b.data() + bytes_of(g.in, shift),
         c.data() + bytes_of(g.out, shift), workspace.data());
    std::vector<std::byte> rows;
    for (std::int64_t i = 0; i < g.m; ++i) {
        auto* row = c.data() + bytes_of(g.out, shift + i * g.ldc);
        rows.insert(rows.end(), row, row + bytes_of(g.out, g.n));
    }
    return rows;
}

GemmShape with_gap(GemmShape g, std::int64_t gap) {
    g.lda = (g.transpose_a ? g.m : g.k) + gap, g.ldb = (g.transpose_b ? g.k : g.n) + gap, g.ldc = g.n + gap;
    return g;
}

}  // namespace

TEST_CASE("products of one shape have the same bits at every address") {
    Draw draw(1);
    int different = 0, others = 0;
    for (int i = 0; i < 400; ++i) {
        auto t = types[i % 4];
        GemmShape g{draw.size(), draw.size(), draw.size() * (i % 16 ? 1 : 7)};
        auto form = i / 4 % 3;
        g.transpose_a = form == 2, g.transpose_b = form == 0, g.in = t.in, g.out = t.out;
        g.accumulate = i / 12 % 2;
        g = with_gap(g, i / 24 % 2 ? draw(1, 40) : 0);
        auto first = product_at(g, 0);
        for (auto shift : {draw(1, 4), draw(5, 16)}) {
            CAPTURE(g.m, g.n, g.k, form, name_of(t.in), name_of(t.out), g.accumulate, g.lda, g.ldb, shift);
            bool same = product_at(g, shift) == first;
            CHECK(same);
            different += !same;
        }
        // The control: the same product of one row less is another shape, whose bits are its own.
        auto fewer = g;
        fewer.k -= g.k > 1;
        others += product_at(fewer, 0) != first;
    }
    CHECK(different == 0);
    CHECK(others > 300);
}

TEST_CASE("products whose rows lie apart have the same bits however far apart they lie") {
    Draw draw(2);
    for (int i = 0; i < 200; ++i) {
        auto t = types[i % 4];
        GemmShape g{draw.size(), draw.size(), draw.size()};
        auto form = i / 4 % 3;
        g.transpose_a = form == 2, g.transpose_b = form == 0, g.in = t.in, g.out = t.out;
        auto first = product_at(with_gap(g, 1), 0);
        for (int gap : {3, 8, 32}) {
            CAPTURE(g.m, g.n, g.k, form, name_of(t.in), name_of(t.out), gap);
            CHECK((product_at(with_gap(g, gap), gap) == first));
        }
    }
}

TEST_CASE("a product added to what is there has the bits of the product and a sum") {
    Draw draw(4);
    for (int i = 0; i < 300; ++i) {
        auto t = types[i % 4];
        GemmShape g{draw.size(), draw.size(), draw.size() * (i % 8 ? 1 : 5)};
        auto form = i / 4 % 3;
        g.transpose_a = form == 2, g.transpose_b = form == 0, g.in = t.in, g.out = t.out;
        if (g.out == bf16) continue;  // rounds once, where the two would round twice
        g = with_gap(g, 0);
        auto apart = product_at(g, 0);
        Numbers sum(g.out, {g.m, g.n}, 3);
        for (std::int64_t e = 0; e < sum.size(); ++e) {
            auto add = [&](auto zero) {
                using T = decltype(zero);
                reinterpret_cast<T*>(sum.data())[e] += reinterpret_cast<T const*>(apart.data())[e];
            };
            g.out == f64 ? add(double{}) : add(float{});
        }
        g.accumulate = true;
        auto together = product_at(g, 0);
        CAPTURE(g.m, g.n, g.k, form, name_of(t.in), name_of(t.out));
        CHECK(std::memcmp(together.data(), sum.data(), together.size()) == 0);
    }
}

TEST_CASE("ops that are by_shape give the same bits at every address, for any number of workers") {
    Draw draw(3);
    for (auto t : {f32, bf16, f64}) {
        auto wide = t == f64 ? f64 : f32;
        std::vector<tests::Case> cases;
        auto x = [&](Shape shape, DType type) { return Numbers(type, shape, cases.size() + 7); };
        for (int i = 0; i < 6; ++i) {
            auto batch = draw(1, 3), rows = draw(20, 180), n = draw(3, 300), k = draw(3, 700);
            using enum ProductForm;
            cases.push_back({Product{nt}, {x({batch, rows, k}, t), x({n, k}, t)}});
            cases.push_back({Product{nn}, {x({batch, rows, n}, t), x({n, k}, t)}});
            cases.push_back({Product{tn}, {x({batch, rows, n}, t), x({batch, rows, k}, t)}});
            cases.push_back({Product{nn, 2}, {x({rows, n}, t), x({n, k}, t), x({rows, n}, t), x({n, k}, t)}});
            cases.push_back({Product{tn, 2}, {x({rows, n}, t), x({rows, k}, t), x({9, n}, t), x({9, k}, t)}});
            cases.push_back({Linear{Epilogue::bias_gelu}, {x({batch, rows, k}, t), x({n, k}, t), x({n}, t)}});
            cases.push_back(
                {ProductGeluGradient{}, {x({batch, rows, n}, t), x({n, k}, t), x({batch, rows, k}, t)}});
            cases.push_back({MatMul{false, true}, {x({batch, rows, k}, t), x({batch, n, k}, t)}});
            auto targets = tests::integers({batch, rows}, 0, n);
            auto each = x({batch, rows}, wide);
            cases.push_back(
                {LinearCrossEntropyStep{64}, {x({batch, rows, k}, t), x({n, k}, t), targets, each}});
        }
        for (auto const& c : cases) {
            std::vector<Numbers> first;
            int workers = 1;
            for (std::int64_t shift : {0, 1, 3, 7, 16}) {
                tests::How how;
                how.workers = workers, how.shift = shift;
                auto out = tests::run_kernel(c.op, c.in, how);
                if (first.empty()) first = out;
                CAPTURE(c.op.text(), to_string(c.in[0].meta()), to_string(c.in[1].meta()), workers, shift);
                for (std::size_t o = 0; o < out.size(); ++o) CHECK(tests::same_bits(out[o], first[o]));
                workers = workers == 4 ? 1 : 2 * workers;
            }
        }
    }
}
