#include "kernel_cases.hpp"

#include "catch.hpp"

#include <map>
#include <set>

using namespace plait;
using namespace tests;

namespace {

constexpr DType dtypes[] = {f32, bf16, f64};

void require_same(std::vector<Numbers> const& a, std::vector<Numbers> const& b) {
    for (std::size_t i = 0; i < a.size(); ++i) REQUIRE(same_bits(a[i], b[i]));
}

/// A call's op and inputs, to be printed where a check fails.
std::string describe(Case const& c) {
    Metas in;
    for (auto const& x : c.in) in.push_back(x.meta());
    return c.op.text() + " of " + to_string(in);
}

}  // namespace

TEST_CASE("the cases reach every kernel that is not a product") {
    std::set<std::string_view> seen;
    for (auto const& c : kernel_cases(f32)) seen.insert(c.op.name());
    for (auto const& row : cpu::kernels()) {
        INFO(row.op);
        bool product = row.op.substr(0, 7) == "product" || row.op == "matmul" ||
                       row.op.substr(0, 6) == "linear" || row.op.substr(0, 9) == "attention";
        CHECK((product || seen.count(row.op)));
    }
}

TEST_CASE("the number of workers does not change the bits") {
    for (auto t : dtypes) {
        for (auto const& c : kernel_cases(t)) {
            INFO(describe(c));
            How how;
            how.workers = 1;
            auto want = run_kernel(c.op, c.in, how);
            for (int workers : {2, 3, 4}) {
                how.workers = workers;
                require_same(run_kernel(c.op, c.in, how), want);
            }
        }
    }
}

TEST_CASE("addresses do not change the bits") {
    for (auto t : dtypes) {
        for (auto const& c : kernel_cases(t)) {
            INFO(describe(c));
            auto want = run_kernel(c.op, c.in);
            for (int shift : {1, 3}) {
                How how;
                how.shift = shift;
                require_same(run_kernel(c.op, c.in, how), want);
            }
        }
    }
}

TEST_CASE("an output may take the buffer of an input that the op names") {
    for (auto t : dtypes) {
        for (auto const& c : kernel_cases(t)) {
            INFO(describe(c));
            auto want = run_kernel(c.op, c.in);
            for (auto const& alias : c.op.aliases()) {
                auto const& x = c.in[static_cast<std::size_t>(alias.input)].meta();
                auto const& y = want[static_cast<std::size_t>(alias.output)].meta();
                if (x.dtype != y.dtype || x.elements() != y.elements()) continue;
                How how;
                how.in_place = alias;
                require_same(run_kernel(c.op, c.in, how), want);
            }
        }
    }
}

TEST_CASE("adding to an output has the bits of computing apart and then adding") {
    int calls = 0;
    for (auto t : dtypes) {
        for (auto const& c : kernel_cases(t)) {
            INFO(describe(c));
            How how;
            how.accumulate = kernel_row(c.op, how.isa).accumulates;
            if (!how.accumulate || c.op.text().find("max") != std::string::npos) continue;
            auto apart = run_kernel(c.op, c.in);
            for (auto const& y : apart)
                how.before.emplace_back(is_floating(y.meta().dtype)
                                            ? Numbers(y.meta().dtype, y.meta().shape, 99, 3)
                                            : integers(y.meta().shape, 0, 9, y.meta().dtype));
            auto added = run_kernel(c.op, c.in, how);
            for (std::size_t i = 0; i < apart.size(); ++i) {
                if (how.accumulate >> i & 1)
                    for (std::int64_t j = 0; j < apart[i].size(); ++j)
                        apart[i].set(j, apart[i].meta().dtype == f32 ? static_cast<float>(how.before[i](j)) +
                                                                           static_cast<float>(apart[i](j))
                                                                     : how.before[i](j) + apart[i](j));
                REQUIRE(same_bits(added[i], apart[i]));
            }
            ++calls;
        }
    }
    CHECK(calls > 30);
}

TEST_CASE("instruction sets and dtypes agree") {
    std::map<DType, double> tolerance{{f32, 2e-5}, {bf16, 1e-2}, {f64, 1e-12}};
    for (auto t : dtypes) {
        for (auto const& c : kernel_cases(t)) {
            INFO(describe(c));
            How how;
            how.isa = cpu::Isa::base;
            auto want = run_kernel(c.op, c.in, how);
            for (auto isa : {cpu::Isa::avx2, cpu::Isa::avx512}) {
                if (isa > cpu::best_isa()) continue;
                how.isa = isa;
                auto got = run_kernel(c.op, c.in, how);
                for (std::size_t i = 0; i < got.size(); ++i)
                    REQUIRE(difference(got[i], want[i]) <= tolerance[t]);
            }
        }
    }
    // The same numbers in f64 give nearly the same results.
    for (auto t : {f32, bf16}) {
        auto doubles = kernel_cases(f64), cases = kernel_cases(t);
        for (std::size_t k = 0; k < cases.size(); ++k) {
            INFO(describe(cases[k]));
            if (doubles[k].op.text() != cases[k].op.text()) continue;  // the dtype is an attribute
            for (std::size_t i = 0; i < cases[k].in.size(); ++i)
                for (std::int64_t j = 0; j < cases[k].in[i].size(); ++j)
                    doubles[k].in[i].set(j, cases[k].in[i](j));
            auto got = run_kernel(cases[k].op, cases[k].in), want = run_kernel(doubles[k].op, doubles[k].in);
            for (std::size_t i = 0; i < got.size(); ++i)
                REQUIRE(difference(got[i], want[i]) <=
                        tolerance[t] * (got[i].meta().dtype == bf16 ? 1 : 0.5));
        }
    }
}
