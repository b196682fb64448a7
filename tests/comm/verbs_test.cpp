#include "comm/verbs.hpp"

#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>

#include "catch.hpp"
#include "plait/comm/self.hpp"
#include "plait/comm/threads.hpp"

using namespace plait;
using tests::values;

namespace {
template <class T>
std::vector<T> combine(Combine how, std::vector<std::vector<T>> const& all) {
    std::vector<std::byte const*> inputs;
    for (auto const& v : all) inputs.push_back(reinterpret_cast<std::byte const*>(v.data()));
    std::vector<T> out(all[0].size());
    ordered_combine(how, dtype_of<T>, inputs, reinterpret_cast<std::byte*>(out.data()),
                    static_cast<std::int64_t>(out.size()));
    return out;
}
}  // namespace

TEST_CASE("every verb, on threads") {
    int size = GENERATE(1, 2, 3, 4, 8);
    CAPTURE(size);
    REQUIRE_NOTHROW(run_ranks(size, tests::check_verbs));
}

TEST_CASE("sums over ranks are one binary tree") {
    std::vector<std::vector<float>> x;
    for (int r = 0; r < 7; ++r) x.push_back(values<float>(r, 1000));
    auto y = combine(Combine::sum, x);
    auto chain = x[0], tree = x[0];
    for (std::size_t i = 0; i < chain.size(); ++i) {
        for (std::size_t r = 1; r < 7; ++r) chain[i] += x[r][i];
        tree[i] = ((x[0][i] + x[1][i]) + (x[2][i] + x[3][i])) + ((x[4][i] + x[5][i]) + x[6][i]);
    }
    CHECK(y == tree);
    CHECK(y != chain);  // the numbers can tell
}

TEST_CASE("bf16 is rounded after every addition, so parts of a sum may be made before") {
    std::vector<std::vector<Bf16>> x{{Bf16(1.f)}, {Bf16(0x1p-8f)}, {Bf16(0x1p-8f)}, {Bf16(0.f)}};
    CHECK(static_cast<float>(combine(Combine::sum, x)[0]) == 1.f);  // rounded once it would be 1 + 2^-7
    std::vector<std::vector<Bf16>> halves{{combine(Combine::sum, {x[0], x[1]})[0]},
                                          {combine(Combine::sum, {x[2], x[3]})[0]}};
    CHECK(combine(Combine::sum, halves) == combine(Combine::sum, x));
}

TEST_CASE("a NaN wins a max, and integers wrap") {
    auto nan = std::numeric_limits<float>::quiet_NaN();
    for (auto const& x : {std::vector<std::vector<float>>{{nan}, {1.f}, {2.f}},
                          {{1.f}, {nan}, {2.f}},
                          {{1.f}, {2.f}, {nan}}}) {
        CHECK(std::isnan(combine(Combine::max, x)[0]));
    }
    std::vector<std::vector<std::int64_t>> most{{std::numeric_limits<std::int64_t>::max()}, {1}};
    CHECK(combine(Combine::integer_sum, most)[0] == std::numeric_limits<std::int64_t>::min());
}

TEST_CASE("parts are equal up to one element and leave nothing out") {
    for (std::int64_t count : {0, 1, 7, 8, 1001}) {
        std::int64_t next = 0;
        for (int r = 0; r < 8; ++r) {
            auto [first, last] = part_of(count, r, 8);
            CHECK(first == next);
            CHECK((last - first == count / 8 || last - first == count / 8 + 1));
            next = last;
        }
        CHECK(next == count);
    }
}

TEST_CASE("arguments that cannot be right are refused at once") {
    SelfCommunicator c;
    std::vector<float> x(8), y(8);
    std::vector<std::int32_t> i(8);
    std::vector<std::uint8_t> u(8);
    CHECK_THROWS_WITH(c.all_reduce(std::span(x), std::span(i), Combine::sum),
                      "all_reduce: in is f32, out i32");
    CHECK_THROWS_WITH(c.all_reduce(std::span(x), std::span(y).first(7), Combine::sum),
                      "all_reduce: in holds 8 elements and out 7: they should hold 8 and 8");
    CHECK_THROWS_WITH(c.all_reduce(std::span(x), Combine::integer_sum),
                      "integer_sum of f32 over ranks: use i32 or i64");
    CHECK_THROWS_AS(c.all_reduce(std::span(u), Combine::sum), UsageError);
    CHECK_THROWS_AS(c.all_reduce(std::span(x).first(4), std::span(x).subspan(2, 4), Combine::sum),
                    UsageError);
    CHECK_THROWS_AS(c.all_to_all(std::span(x), std::span(x)), UsageError);
    CHECK_THROWS_WITH(c.broadcast(std::span(x), 1), ContainsSubstring("no other rank 1 among the 1"));
    CHECK_THROWS_AS(c.send(std::span(x), 0), UsageError);
    CHECK_THROWS_AS(ThreadWorld(0), UsageError);
    CHECK_THROWS_AS(ThreadWorld(2).join(2), UsageError);
}

TEST_CASE("latency is waited out together", "[alone]") {
    constexpr double latency = 0.05;
    double one = 0;
    std::atomic<int> early{0};
    run_ranks(2,
              [&](Communicator& c) {
                  std::vector<std::vector<float>> data(4, std::vector<float>(10, 1.f));
                  auto start = std::chrono::steady_clock::now();
                  std::vector<Pending> pending;
                  for (auto& v : data) pending.push_back(c.all_reduce(std::span(v), Combine::sum));
                  early += pending[0].done();
                  for (auto& p : pending) p.wait();
                  if (c.rank() == 0) {
                      one = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
                  }
              },
              {.latency_seconds = latency});
    CHECK(one >= latency);
    CHECK(early == 0);
}
