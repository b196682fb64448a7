#include "plait/cpu/gemm.hpp"

#include "catch.hpp"
#include "numbers.hpp"

#include <cstring>
#include <vector>

using namespace plait;
using tests::Numbers;

namespace {

// Operands with room between the rows, the product by loops in double, and what `gemm` gives.
void check_gemm(GemmShape g, std::int64_t gap) {
    auto rows_a = g.transpose_a ? g.k : g.m, columns_a = g.transpose_a ? g.m : g.k;
    auto rows_b = g.transpose_b ? g.n : g.k, columns_b = g.transpose_b ? g.k : g.n;
    g.lda = columns_a + gap, g.ldb = columns_b + gap, g.ldc = g.n + gap;
    Numbers a(g.in, {rows_a, g.lda}, 1), b(g.in, {rows_b, g.ldb}, 2), c(g.out, {g.m, g.ldc}, 3),
        before = c.copy();
    std::vector<std::byte> room(static_cast<std::size_t>(gemm_workspace(g) + 64));
    auto* workspace = room.data() + (64 - reinterpret_cast<std::uintptr_t>(room.data()) % 64);
    gemm(g, a.data(), b.data(), c.data(), workspace);
    double worst = 0;
    bool gaps_kept = true;
    for (std::int64_t i = 0; i < g.m; ++i) {
        for (std::int64_t j = 0; j < g.n; ++j) {
            double sum = g.accumulate ? before(i * g.ldc + j) : 0, size = std::abs(sum);
            for (std::int64_t l = 0; l < g.k; ++l) {
                double term = a(g.transpose_a ? l * g.lda + i : i * g.lda + l) *
                              b(g.transpose_b ? j * g.ldb + l : l * g.ldb + j);
                sum += term, size += std::abs(term);
            }
            double unit =
                g.out == f64 ? 1e-15 : 1e-6 * size + (g.out == bf16 ? 0.005 * std::abs(sum) : 0) + 1e-30;
            worst =
                std::max(worst, std::abs(c(i * g.ldc + j) - sum) / (g.out == f64 ? unit * (size + 1) : unit));
        }
        for (auto j = g.n; j < g.ldc; ++j) gaps_kept &= c(i * g.ldc + j) == before(i * g.ldc + j);
    }
    CAPTURE(g.m, g.n, g.k, g.transpose_a, g.transpose_b, name_of(g.in), name_of(g.out), g.accumulate, gap);
    CHECK(worst < 4);
    CHECK(gaps_kept);
}

struct Types {
    DType in, out;
};

}  // namespace

TEST_CASE("gemm gives the product of every dtype, transpose and stride") {
    for (auto [in, out] : {Types{f32, f32}, Types{f64, f64}, Types{bf16, bf16}, Types{bf16, f32}})
        for (bool ta : {false, true})
            for (bool tb : {false, true})
                for (bool accumulate : {false, true})
                    for (std::int64_t gap : {0, 3, 32})
                        for (auto [m, n, k] :
                             std::initializer_list<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                                {7, 13, 5},
                                                                                {33, 1, 17},
                                                                                {1, 40, 64},
                                                                                {64, 48, 32},
                                                                                {65, 31, 600},
                                                                                {70, 300, 1030}})
                            check_gemm({m, n, k, ta, tb, in, out, accumulate}, gap);
}

TEST_CASE("gemm without a contraction gives zeros, or what was there") {
    float c[6] = {1, 2, 3, 4, 5, 6};
    gemm({2, 2, 0, false, false, f32, f32, true, 0, 0, 3}, nullptr, nullptr, c, nullptr);
    CHECK(c[0] == 1);
    gemm({2, 2, 0, false, false, f32, f32, false, 0, 0, 3}, nullptr, nullptr, c, nullptr);
    CHECK(c[0] == 0);
    CHECK(c[2] == 3);
    CHECK(c[4] == 0);
}

TEST_CASE("gemm rounds an accumulated bf16 once") {
    // 256 + (1 + 2^-7) lies above the tie between 256 and 258, while the product alone rounds onto the tie.
    Bf16 a[2] = {Bf16(1.0f), Bf16(1.0f)}, b[2] = {Bf16(1.0f), Bf16(0.0078125f / 2)}, c[1] = {Bf16(256.0f)};
    GemmShape g{1, 1, 2, false, false, bf16, bf16, true};
    std::vector<std::byte> room(static_cast<std::size_t>(gemm_workspace(g) + 64));
    gemm(g, a, b, c, room.data() + (64 - reinterpret_cast<std::uintptr_t>(room.data()) % 64));
    CHECK(static_cast<float>(c[0]) == 258);
}
