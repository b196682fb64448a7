#include "plait/exec/memory_plan.hpp"
#include "catch.hpp"
#include "plait/core/random.hpp"

using namespace plait;

namespace {

bool overlap(std::vector<Lifetime> const& l, MemoryPlan const& p) {
    for (std::size_t a = 0; a < l.size(); ++a)
        for (std::size_t b = a + 1; b < l.size(); ++b) {
            bool in_time = l[a].first <= l[b].last && l[b].first <= l[a].last;
            bool in_space =
                p.offsets[a] < p.offsets[b] + l[b].bytes && p.offsets[b] < p.offsets[a] + l[a].bytes;
            if (in_time && in_space && l[a].bytes && l[b].bytes) return true;
        }
    return false;
}

std::vector<Lifetime> random_lifetimes(std::uint64_t seed, int n) {
    std::vector<Lifetime> l;
    Random random{seed, 1, 0};
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(n); ++i) {
        int first = static_cast<int>(random.word(4 * i) % 100);
        l.push_back(
            {random.word(4 * i + 1) % 5000, first, first + static_cast<int>(random.word(4 * i + 2) % 30)});
    }
    return l;
}

}  // namespace

TEST_CASE("lifetimes that meet in time never meet in memory") {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        auto l = random_lifetimes(seed, 120);
        auto p = plan_memory(l);
        CHECK_FALSE(overlap(l, p));
        CHECK(p.bytes >= p.live_bytes);
        CHECK(p.bytes <= p.live_bytes * 5 / 4);
        for (std::size_t i = 0; i < l.size(); ++i) {
            CHECK(p.offsets[i] % 64 == 0);
            CHECK(p.offsets[i] + l[i].bytes <= p.bytes);
        }
    }
}

TEST_CASE("an overlap is noticed") {
    auto l = random_lifetimes(1, 120);
    auto p = plan_memory(l);
    for (auto& o : p.offsets) o /= 2;
    CHECK(overlap(l, p));
}

TEST_CASE("memory is used again") {
    auto p = plan_memory({{1000, 0, 1}, {1000, 2, 3}, {500, 1, 2}});
    CHECK(p.offsets[0] == p.offsets[1]);
    CHECK(p.bytes == 1024 + 512);
    CHECK(p.bytes == p.live_bytes);
}
