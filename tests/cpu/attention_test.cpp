#include "plait/ops/attention.hpp"

#include "catch.hpp"
#include "kernel_cases.hpp"

using namespace plait;
using namespace tests;

namespace {

struct Sizes {
    std::int64_t batch, seq, keys, heads, kv_heads, dim;
    bool causal;
};
constexpr Sizes cases[] = {
    {1, 1, 1, 1, 1, 8, true},      {2, 17, 17, 2, 2, 8, true},   {2, 70, 70, 4, 2, 10, true},
    {1, 130, 130, 3, 1, 16, true}, {2, 65, 65, 2, 1, 20, true},  {1, 129, 129, 4, 4, 64, true},
    {1, 64, 64, 2, 2, 128, true},  {1, 70, 70, 1, 1, 256, true}, {2, 33, 33, 4, 2, 64, false},
    {1, 40, 150, 2, 1, 10, false}, {1, 200, 3, 2, 2, 16, false}, {1, 100, 64, 2, 1, 20, false},
};

struct Gradients {
    std::vector<double> out, lse, dq, dk, dv;
};

// Everything by loops in double, from the definition.
Gradients reference(Sizes const& s, Numbers const& q, Numbers const& k, Numbers const& v,
                    Numbers const& dout) {
    auto size = [](Numbers const& x) { return static_cast<std::size_t>(x.size()); };
    Gradients g{std::vector<double>(size(q)),
                std::vector<double>(static_cast<std::size_t>(s.batch * s.heads * s.seq)),
                std::vector<double>(size(q)), std::vector<double>(size(k)), std::vector<double>(size(v))};
    double scale = 1 / std::sqrt(static_cast<double>(s.dim));
    std::vector<double> p(static_cast<std::size_t>(s.keys));
    for (std::int64_t b = 0; b < s.batch; ++b)
        for (std::int64_t h = 0; h < s.heads; ++h)
            for (std::int64_t i = 0; i < s.seq; ++i) {
                auto at_q = ((b * s.seq + i) * s.heads + h) * s.dim;
                auto at_k = [&](std::int64_t j) {
                    return ((b * s.keys + j) * s.kv_heads + h * s.kv_heads / s.heads) * s.dim;
                };
                auto dot = [&](Numbers const& x, std::int64_t x0, Numbers const& y, std::int64_t y0) {
                    double sum = 0;
                    for (std::int64_t d = 0; d < s.dim; ++d) sum += x(x0 + d) * y(y0 + d);
                    return sum;
                };
                auto keys = s.causal ? std::min(i + 1, s.keys) : s.keys;
                double most = -1e300, total = 0, delta = 0;
                auto P = [&](std::int64_t j) -> double& { return p[static_cast<std::size_t>(j)]; };
                for (std::int64_t j = 0; j < keys; ++j)
                    P(j) = scale * dot(q, at_q, k, at_k(j)), most = std::max(most, P(j));
                for (std::int64_t j = 0; j < keys; ++j) total += P(j) = std::exp(P(j) - most);
                g.lse[static_cast<std::size_t>((b * s.heads + h) * s.seq + i)] = most + std::log(total);
                for (std::int64_t j = 0; j < keys; ++j) {
                    P(j) /= total;
                    delta += P(j) * dot(dout, at_q, v, at_k(j));
                    for (std::int64_t d = 0; d < s.dim; ++d) {
                        g.out[static_cast<std::size_t>(at_q + d)] += P(j) * v(at_k(j) + d);
                        g.dv[static_cast<std::size_t>(at_k(j) + d)] += P(j) * dout(at_q + d);
                    }
                }
                for (std::int64_t j = 0; j < keys; ++j) {
                    double ds = P(j) * (dot(dout, at_q, v, at_k(j)) - delta) * scale;
                    for (std::int64_t d = 0; d < s.dim; ++d) {
                        g.dq[static_cast<std::size_t>(at_q + d)] += ds * k(at_k(j) + d);
                        g.dk[static_cast<std::size_t>(at_k(j) + d)] += ds * q(at_q + d);
                    }
                }
            }
    return g;
}

double error(Numbers const& got, std::vector<double> const& want) {
    double far = 0, big = 0.1;
    for (auto w : want) big = std::max(big, std::abs(w));
    for (std::int64_t i = 0; i < got.size(); ++i) {
        auto e = std::abs(got(i) - want[static_cast<std::size_t>(i)]);
        if (!(e <= far)) far = e;
    }
    return far / big;
}

struct Inputs {
    Numbers q, k, v, dout;
    Inputs(DType t, Sizes const& s)
        : q(t, {s.batch, s.seq, s.heads, s.dim}, 1, 2),
          k(t, {s.batch, s.keys, s.kv_heads, s.dim}, 2, 2),
          v(t, {s.batch, s.keys, s.kv_heads, s.dim}, 3),
          dout(t, {s.batch, s.seq, s.heads, s.dim}, 4) {}
};

}  // namespace

TEST_CASE("attention and its gradient agree with their definition") {
    for (auto [t, tolerance] : {std::pair{f32, 1e-5}, std::pair{bf16, 2e-2}, std::pair{f64, 1e-12}})
        for (auto const& s : cases)
            for (auto isa : {cpu::Isa::base, cpu::Isa::avx2, cpu::Isa::avx512}) {
                if (isa > cpu::best_isa()) continue;
                CAPTURE(name_of(t), cpu::name_of(isa), s.batch, s.seq, s.keys, s.heads, s.kv_heads, s.dim,
                        s.causal);
                Inputs x(t, s);
                auto want = reference(s, x.q, x.k, x.v, x.dout);
                How how;
                how.isa = isa;
                auto y = run_kernel(Attention{s.causal}, {x.q, x.k, x.v}, how);
                CHECK(error(y[0], want.out) < tolerance);
                CHECK(error(y[1], want.lse) < std::min(tolerance, 1e-5));
                auto d = run_kernel(AttentionGradient{s.causal}, {x.q, x.k, x.v, y[0], y[1], x.dout}, how);
                CHECK(error(d[0], want.dq) < tolerance);
                CHECK(error(d[1], want.dk) < tolerance);
                CHECK(error(d[2], want.dv) < tolerance);
            }
}

TEST_CASE("neither workers nor addresses nor neighbours in the batch change the bits of attention") {
    Sizes s{2, 150, 150, 6, 2, 20, true}, half = s;
    half.batch = 1;
    for (auto t : {f32, bf16, f64}) {
        Inputs x(t, s), first(t, half);
        auto want = run_kernel(Attention{}, {x.q, x.k, x.v});
        auto grads = run_kernel(AttentionGradient{}, {x.q, x.k, x.v, want[0], want[1], x.dout});
        for (int workers : {1, 3, 4}) {
            How how;
            how.workers = workers;
            how.shift = workers;
            auto y = run_kernel(Attention{}, {x.q, x.k, x.v}, how);
            CHECK(same_bits(y[0], want[0]));
            CHECK(same_bits(y[1], want[1]));
            auto d = run_kernel(AttentionGradient{}, {x.q, x.k, x.v, y[0], y[1], x.dout}, how);
            for (std::size_t i = 0; i < 3; ++i) CHECK(same_bits(d[i], grads[i]));
        }
        std::memcpy(first.q.data(), x.q.data(), static_cast<std::size_t>(first.q.meta().bytes()));
        std::memcpy(first.k.data(), x.k.data(), static_cast<std::size_t>(first.k.meta().bytes()));
        std::memcpy(first.v.data(), x.v.data(), static_cast<std::size_t>(first.v.meta().bytes()));
        auto y = run_kernel(Attention{}, {first.q, first.k, first.v});
        CHECK(std::memcmp(y[0].data(), want[0].data(), static_cast<std::size_t>(y[0].meta().bytes())) == 0);
    }
}

TEST_CASE("attention on large scores stays finite") {
    Sizes s{1, 80, 80, 1, 1, 16, true};
    Inputs x(f32, s);
    for (std::int64_t i = 0; i < x.q.size(); ++i) x.q.set(i, 300 * x.q(i));
    auto y = run_kernel(Attention{}, {x.q, x.k, x.v});
    auto want = reference(s, x.q, x.k, x.v, x.dout);
    CHECK(error(y[0], want.out) < 1e-3);
    auto d = run_kernel(AttentionGradient{}, {x.q, x.k, x.v, y[0], y[1], x.dout});
    CHECK(error(d[2], want.dv) < 1e-3);
}
