// The same bits on every layout that the granularity covers.
#include "catch.hpp"
#include "laws/cover.hpp"
#include "laws/ranks.hpp"

#include <algorithm>
#include <cmath>

using namespace plait;
using namespace tests;

namespace {

struct Case {
    Subject subject;
    Arrangement arrangement;
};

constexpr std::pair<int, int> meshes[] = {{1, 1}, {1, 2}, {2, 1}, {1, 4}, {2, 2},
                                          {4, 1}, {1, 8}, {2, 4}, {4, 2}, {8, 1}};
constexpr int micros[] = {1, 2, 4, 8};
constexpr Granularity granularities[] = {{8, 8, 2}, {8, 2, 2}, {16, 4, 1}, {4, 1, 1}};

/// A row of the table: model, compute, granularity, mesh, micro-batches, zero, recompute.
Case case_of(Choices const& c) {
    auto at = [&](std::size_t i) { return static_cast<std::size_t>(c[i]); };
    Case one{subjects()[at(0)], {}};
    one.subject.compute = c[1] ? bf16 : f32;
    one.subject.granularity = granularities[at(2)];
    auto [replica, data] = meshes[at(3)];
    one.arrangement = {
        .replica = replica, .data = data, .micro = micros[at(4)], .zero = c[5], .recompute = c[6] == 1};
    return one;
}

/// All that the granularities cover; `model` below 0 takes every model.
std::vector<Choices> table(int model = -1) {
    auto models = static_cast<int>(subjects().size());
    return all_choices({models, 2, 4, 10, 4, 4, 2}, [&](Choices const& c) {
        auto [replica, data] = meshes[static_cast<std::size_t>(c[3])];
        Arrangement a{.replica = replica, .data = data, .micro = micros[c[4]]};
        return (model < 0 || c[0] == model) && a.covered(granularities[c[2]]);
    });
}

void check_law(std::vector<Choices> const& rows) {
    check_bits_of_one_rank(rows, case_of, false);
    fmt::print("{} layouts of {} that are covered have the bits of one rank\n", rows.size(), table().size());
}

}  // namespace

TEST_CASE("every layout has the bits of one rank") { check_law(pairwise(table())); }

TEST_CASE("every layout of llama has the bits of one rank", "[slow]") { check_law(table(0)); }
TEST_CASE("every layout of an untied llama has the bits of one rank", "[slow]") { check_law(table(1)); }
TEST_CASE("every layout of a grouped-query llama has the bits of one rank", "[slow]") { check_law(table(2)); }
TEST_CASE("every layout of gpt2 has the bits of one rank", "[slow]") { check_law(table(3)); }
TEST_CASE("every layout of gpt2 with dropout has the bits of one rank", "[slow]") { check_law(table(4)); }

TEST_CASE("subjects differ in their bits") {
    std::vector<std::uint64_t> hashes;
    for (auto s : subjects())
        for (auto compute : {f32, bf16})
            for (auto const& g : {granularities[0], granularities[3]}) {
                s.compute = compute, s.granularity = g;
                hashes.push_back(wanted(s).hash);
            }
    std::sort(hashes.begin(), hashes.end());
    CHECK(std::adjacent_find(hashes.begin(), hashes.end()) == hashes.end());
}

TEST_CASE("fast layouts have the losses of one rank, nearly") {
    // model, compute, mesh, micro-batches, zero, recompute
    constexpr std::pair<int, int> fast_meshes[] = {{1, 1}, {1, 2}, {1, 3}, {2, 1}, {1, 6}, {2, 3}, {3, 2}};
    auto const rows = all_choices({5, 2, 7, 2, 4, 2});
    auto chosen = pairwise(rows);
    for (auto const& row : chosen) {
        auto at = [&](std::size_t i) { return static_cast<std::size_t>(row[i]); };
        auto s = subjects()[at(0)];
        s.batch = 18, s.compute = row[1] ? bf16 : f32;
        Arrangement a{.replica = fast_meshes[at(2)].first,
                      .data = fast_meshes[at(2)].second,
                      .micro = row[3] ? 3 : 1,
                      .zero = row[4],
                      .recompute = row[5] == 1,
                      .bits = Bits::fast};
        INFO(text_of(s, a));
        auto const& want = wanted(s, Bits::fast);
        auto all = outcomes(s, a);
        for (auto const& o : all) {
            CHECK(o == all[0]);
            for (std::size_t i = 0; i < want.loss.size(); ++i)
                CHECK(std::abs(o.loss[i] - want.loss[i]) < (s.compute == f32 ? 1e-5 : 5e-3));
        }
    }
    fmt::print("{} fast layouts of {} have the losses of one rank\n", chosen.size(), rows.size());
}
