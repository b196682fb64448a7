#include "plait/ops/attention.hpp"
#include "plait/ops/cache.hpp"
#include "row_runs.hpp"

#include <cmath>

using namespace tests;
using plait::bf16, plait::f32;

namespace {

struct Sizes {
    std::int64_t batch, length, keys, heads, kv_heads, dim;
    bool causal;
    std::int64_t shift = 0;
};

struct Inputs {
    Numbers q, k, v, dout;
    Inputs(plait::DType t, Sizes const& s)
        : q(t, {s.batch, s.length, s.heads, s.dim}, 1, 2),
          k(t, {s.batch, s.keys, s.kv_heads, s.dim}, 2, 2),
          v(t, {s.batch, s.keys, s.kv_heads, s.dim}, 3),
          dout(t, {s.batch, s.length, s.heads, s.dim}, 4) {}
};

void close(std::vector<Numbers> const& got, std::vector<Numbers> const& want) {
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        INFO("output " << i);
        REQUIRE(got[i].meta() == want[i].meta());
        REQUIRE(difference(got[i], want[i]) <= (want[i].meta().dtype == bf16 ? 0.008 : 1e-5));
    }
}

/// One sequence of a batch, or one kv head and its query heads, of [batch, n, heads, dim].
Numbers part(Numbers const& x, std::int64_t batch, std::int64_t first, std::int64_t count) {
    auto const& s = x.meta().shape;
    Numbers y({x.meta().dtype, {1, s[1], count, s[3]}});
    for (std::int64_t i = 0; i < s[1]; ++i)
        for (std::int64_t h = 0; h < count; ++h)
            for (std::int64_t d = 0; d < s[3]; ++d)
                y.set((i * count + h) * s[3] + d, x(((batch * s[1] + i) * s[2] + first + h) * s[3] + d));
    return y;
}

}  // namespace

TEST_CASE("a GPU's own attention and its gradient") {
    for (auto t : {f32, bf16})
        for (auto const& s : std::initializer_list<Sizes>{{1, 1, 1, 1, 1, 8, true},
                                                          {2, 17, 17, 2, 2, 8, true},
                                                          {1, 70, 70, 2, 1, 10, true},
                                                          {1, 80, 80, 1, 1, 16, true, 1},
                                                          {1, 40, 40, 1, 1, 72, true},
                                                          {1, 33, 70, 2, 1, 20, false},
                                                          {1, 66, 3, 1, 1, 64, true},
                                                          {1, 20, 90, 2, 2, 10, true},
                                                          {1, 5, 5, 1, 1, 136, true},
                                                          {0, 5, 5, 1, 1, 8, true}}) {
            CAPTURE(plait::name_of(t), s.batch, s.length, s.keys, s.heads, s.kv_heads, s.dim, s.causal);
            Inputs x(t, s);
            How how;
            how.shift = s.shift;
            auto want = run_kernel(plait::Attention{s.causal}, {x.q, x.k, x.v});
            auto got = run_row(plait::Attention{s.causal}, {x.q, x.k, x.v}, how);
            close(got, want);
            std::vector<Numbers> in{x.q, x.k, x.v, want[0], want[1], x.dout};
            close(run_row(plait::AttentionGradient{s.causal}, in, how),
                  run_kernel(plait::AttentionGradient{s.causal}, in));
        }
}

namespace {

/// The largest difference as a part of the largest number.
double relative(Numbers const& a, Numbers const& b) {
    double far = 0, big = 0;
    for (std::int64_t i = 0; i < a.size(); ++i) {
        if (!std::isfinite(a(i))) return 1e30;
        far = std::max(far, std::abs(a(i) - b(i))), big = std::max(big, std::abs(b(i)));
    }
    return far == 0 ? 0 : far / big;
}

/// Both directions of bf16 on tensor cores, against the CPU's kernels and against a GPU's others, which an
/// odd address asks for.
void check_tensor_cores(Sizes const& s, Inputs const& x) {
    CAPTURE(s.batch, s.length, s.keys, s.heads, s.kv_heads, s.dim, s.causal);
    plait::Attention op{s.causal};
    plait::AttentionGradient gradient{s.causal};
    auto want = run_kernel(op, {x.q, x.k, x.v});
    std::vector<Numbers> in{x.q, x.k, x.v, want[0], want[1], x.dout};
    auto hold = [&](std::vector<Numbers> const& got, std::vector<Numbers> const& wanted) {
        for (std::size_t i = 0; i < got.size(); ++i) {
            INFO("output " << i);
            CHECK(relative(got[i], wanted[i]) < (wanted[i].meta().dtype == bf16 ? 0.01 : 1e-5));
        }
    };
    auto forward = run_row(op, {x.q, x.k, x.v});
    hold(forward, want);
    How odd;
    odd.shift = 1;
    hold(forward, run_row(op, {x.q, x.k, x.v}, odd));
    auto back = run_row(gradient, in), wanted = run_kernel(gradient, in);
    // Where there is one key the gradients of scores are nothing but what rounding leaves.
    if (s.keys > 1 && s.length > 1) hold(back, wanted);
    else hold({back[2]}, {wanted[2]});
}

}  // namespace

TEST_CASE("attention on tensor cores and its gradient") {
    for (auto const& s : std::initializer_list<Sizes>{{1, 1, 1, 1, 1, 8, true},
                                                      {2, 7, 7, 2, 1, 40, true},
                                                      {1, 63, 63, 2, 2, 64, false},
                                                      {1, 64, 130, 1, 1, 72, false},
                                                      {1, 65, 64, 1, 1, 96, true},
                                                      {1, 130, 70, 7, 1, 8, false},
                                                      {1, 130, 130, 2, 1, 64, true},
                                                      {1, 70, 20, 1, 1, 128, true},
                                                      {1, 20, 200, 1, 1, 64, true},
                                                      {1, 20, 90, 1, 1, 128, true},
                                                      {1, 130, 130, 1, 1, 128, true}})
        check_tensor_cores(s, Inputs(bf16, s));
}

TEST_CASE("attention on tensor cores of scores far from zero") {
    for (auto const& s : {Sizes{1, 20, 70, 1, 1, 64, false}, Sizes{1, 70, 40, 1, 1, 128, true}})
        for (double sign : {1.0, -1.0}) {
            CAPTURE(sign);
            Inputs x(bf16, s);
            for (std::int64_t i = 0; i < x.q.size(); ++i) x.q.set(i, 30 * std::abs(x.q(i)));
            // Beside scores below -100 the zeros behind the last key would weigh more than f32 can hold.
            for (std::int64_t i = 0; i < x.k.size(); ++i) x.k.set(i, sign * std::abs(x.k(i)));
            check_tensor_cores(s, x);
        }
}

TEST_CASE("tensor cores serve heads of eights at aligned addresses") {
    for (std::int64_t dim : {64, 12}) {
        Sizes s{1, 9, 9, 1, 1, dim, true};
        Inputs x(bf16, s);
        How odd;
        odd.shift = 1;
        auto one = run_row(plait::Attention{}, {x.q, x.k, x.v}),
             other = run_row(plait::Attention{}, {x.q, x.k, x.v}, odd);
        CHECK(same_bits(one[1], other[1]) == (dim == 12));
    }
}

TEST_CASE("a query of NaNs leaves its neighbours on tensor cores what they were") {
    Sizes s{1, 70, 70, 1, 1, 64, true};
    Inputs x(bf16, s);
    auto before = run_row(plait::Attention{}, {x.q, x.k, x.v});
    x.q.set(33 * 64 + 5, std::nan(""));
    auto after = run_row(plait::Attention{}, {x.q, x.k, x.v});
    for (std::int64_t i = 0; i < 70; ++i)
        for (std::int64_t d = 0; d < 64; ++d) {
            auto y = after[0](i * 64 + d);
            REQUIRE((i == 33 ? std::isnan(y) : y == before[0](i * 64 + d)));
        }
}

TEST_CASE("a kv head of a sequence has the bits that it has alone in a GPU's own attention") {
    for (auto [t, dim] :
         {std::pair{f32, 12}, std::pair{bf16, 12}, std::pair{bf16, 64}, std::pair{bf16, 80}}) {
        Sizes s{2, 70, 70, 4, 2, dim, true};
        Inputs x(t, s);
        auto y = run_row(plait::Attention{}, {x.q, x.k, x.v});
        auto d = run_row(plait::AttentionGradient{}, {x.q, x.k, x.v, y[0], y[1], x.dout});
        auto q = part(x.q, 1, 2, 2), k = part(x.k, 1, 1, 1), v = part(x.v, 1, 1, 1);
        auto alone = run_row(plait::Attention{}, {q, k, v});
        CHECK(same_bits(alone[0], part(y[0], 1, 2, 2)));
        auto gradient =
            run_row(plait::AttentionGradient{}, {q, k, v, alone[0], alone[1], part(x.dout, 1, 2, 2)});
        CHECK(same_bits(gradient[0], part(d[0], 1, 2, 2)));
        CHECK(same_bits(gradient[1], part(d[1], 1, 1, 1)));
        CHECK(same_bits(gradient[2], part(d[2], 1, 1, 1)));
    }
}

TEST_CASE("a GPU's cache keeps rows and attends to them") {
    struct Row {
        plait::DType fresh, cache;
        std::int64_t n, heads, kv_heads, dim, shift;
    };
    for (auto const& r : {Row{f32, f32, 3, 4, 2, 10, 0}, Row{f32, bf16, 1, 2, 2, 64, 0},
                          Row{bf16, bf16, 4, 3, 1, 72, 1}, Row{bf16, f32, 2, 1, 1, 8, 0}}) {
        CAPTURE(plait::name_of(r.fresh), plait::name_of(r.cache), r.n, r.dim);
        std::int64_t slots = 3, length = 300, batch = 3;
        Numbers cache(r.cache, {slots, length, r.kv_heads, r.dim}, 1),
            fresh(r.fresh, {batch, r.n, r.kv_heads, r.dim}, 2), slot(plait::Meta{plait::i32, {batch}}),
            positions(plait::Meta{plait::i32, {batch, r.n}});
        // Sequences 0 and 2 share a slot, so some rows are named twice; some tokens are idle.
        for (std::int64_t b = 0; b < batch; ++b) {
            slot.set(b, b == 1 ? 0 : 2);
            for (std::int64_t i = 0; i < r.n; ++i)
                positions.set(b * r.n + i, b == 1 ? -static_cast<double>(i) : 255 + static_cast<double>(i));
        }
        How how;
        how.shift = r.shift;
        auto want = run_kernel(plait::CacheWrite{}, {cache, fresh, slot, positions});
        auto got = run_row(plait::CacheWrite{}, {cache, fresh, slot, positions}, how);
        CHECK(same_bits(got[0], want[0]));
        how.in_place = plait::Alias{0, 0};
        CHECK(same_bits(run_row(plait::CacheWrite{}, {cache, fresh, slot, positions}, how)[0], want[0]));
        how.in_place = {};
        if (r.fresh == bf16 && r.cache == f32) continue;
        Numbers q(r.fresh, {batch, r.n, r.heads, r.dim}, 3, 2), v(r.cache, cache.meta().shape, 4);
        std::vector<Numbers> in{q, want[0], v, slot, positions};
        close(run_row(plait::CachedAttention{}, in, how), run_kernel(plait::CachedAttention{}, in));
    }
}

TEST_CASE("a slot or position outside a GPU's cache is a fault of its token") {
    Numbers cache(f32, {2, 5, 1, 4}, 1), fresh(f32, {1, 3, 1, 4}, 2), q(f32, {1, 3, 1, 4}, 3);
    auto refused = [&](double s, double position) {
        Numbers slot(plait::Meta{plait::i32, {1}}), positions(plait::Meta{plait::i32, {1, 3}});
        slot.set(0, s), positions.set(0, -1), positions.set(1, position), positions.set(2, -1);
        auto place = [](plait::DeviceFault const& fault) {
            return std::string(fault.what()).find("element 1") != std::string::npos;
        };
        try {
            run_row(plait::CacheWrite{}, {cache, fresh, slot, positions});
            return false;
        } catch (plait::DeviceFault const& fault) {
            if (!place(fault)) return false;
        }
        try {
            run_row(plait::CachedAttention{}, {q, cache, cache, slot, positions});
            return false;
        } catch (plait::DeviceFault const& fault) {
            return place(fault);
        }
    };
    CHECK(!refused(1, 4));
    CHECK(refused(1, 5));
    CHECK(refused(2, 4));
    CHECK(refused(-1, 0));
}
