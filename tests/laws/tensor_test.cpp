// The same bits over data, tensor and sequence: shard lines are part of the numerics, the sizes of axes are
// not.
#include "catch.hpp"
#include "laws/cover.hpp"
#include "laws/ranks.hpp"
#include "plait/core/random.hpp"

#include <cmath>

using namespace plait;
using namespace tests;

namespace {

struct Mesh3 {
    int replica, data, tensor;
};
constexpr Mesh3 meshes[] = {{1, 1, 1}, {1, 1, 2}, {1, 1, 4}, {1, 2, 2},
                            {1, 4, 2}, {1, 2, 4}, {2, 2, 2}, {1, 2, 1}};
constexpr int micros[] = {1, 2, 4};

std::vector<Subject> tensor_subjects() {
    auto all = subjects();
    for (auto& s : all) {
        s.config.vocab = 96;
        s.granularity = {8, 8, 4};
        if (s.config.kv_heads == 2) s.config.heads = 8, s.config.kv_heads = 4, s.config.dim = 64;
    }
    // Fewer kv heads than the granularity of the axis.
    all.push_back(all[2]);
    all.back().name = "llama, two kv heads", all.back().config.kv_heads = 2;
    all.push_back(all[2]);
    all.back().name = "llama, three kv heads", all.back().config.kv_heads = 3;
    all.back().config.heads = 12, all.back().config.dim = 48;
    // Of four leaves of the vocabulary one is padding, and one has a row of it.
    for (int i : {0, 1}) {
        all.push_back(all[static_cast<std::size_t>(i)]);
        all.back().name += ", padded", all.back().config.vocab = 71, all.back().config.padded_vocab = 96;
    }
    return all;
}

/// A row: model, compute, mesh, micro-batches, zero, recompute, sequence.
struct Case {
    Subject subject;
    Arrangement arrangement;
};
Case case_of(Choices const& c) {
    Case one{tensor_subjects()[static_cast<std::size_t>(c[0])], {}};
    one.subject.compute = c[1] ? bf16 : f32;
    auto m = meshes[c[2]];
    one.arrangement = {.replica = m.replica,
                       .data = m.data,
                       .micro = micros[c[3]],
                       .zero = c[4],
                       .recompute = c[5] == 1,
                       .tensor = m.tensor,
                       .sequence = c[6] == 1};
    return one;
}

bool runs(Choices const& c) {
    auto const one = case_of(c);
    return one.arrangement.covered(one.subject.granularity);
}

std::vector<Choices> table() {
    return all_choices({9, 2, std::size(meshes), std::size(micros), 4, 2, 2}, runs);
}

/// Every model, mesh, ZeRO level, recompute and sequence; compute and micro-batches go round. Where nothing
/// lies along data all levels are one program, and level 0 stands for them.
std::vector<Choices> broad_table() {
    std::vector<Choices> rows;
    std::uint64_t number = 0;
    for (auto row : all_choices({9, 1, std::size(meshes), 1, 4, 2, 2})) {
        if (row[4] && meshes[row[2]].data == 1) continue;
        do {
            auto const turn = mix(++number);
            row[1] = turn % 2, row[3] = turn / 2 % 3;
        } while (!runs(row));
        rows.push_back(row);
    }
    return rows;
}

void check_law(std::vector<Choices> const& rows) {
    check_bits_of_one_rank(rows, case_of, true);
    fmt::print("{} layouts of {} over data, tensor and sequence have the bits of one rank\n", rows.size(),
               table().size());
}

}  // namespace

TEST_CASE("every layout over the tensor axis has the bits of one rank") { check_law(pairwise(table())); }

TEST_CASE("all layouts over the tensor axis have the bits of one rank", "[slow]") {
    check_law(broad_table());
}

TEST_CASE("shard lines are part of the numerics") {
    auto s = tensor_subjects().front();
    CHECK_FALSE(wanted(s).hash == wanted(s, Bits::layout, true).hash);
}

TEST_CASE("fast layouts over the tensor axis have the losses of one rank, nearly") {
    for (auto compute : {f32, bf16})
        for (auto m : {Mesh3{1, 1, 2}, {1, 1, 4}, {1, 2, 2}})
            for (bool sequence : {false, true}) {
                auto s = tensor_subjects().front();
                s.compute = compute;
                Arrangement a{.replica = m.replica,
                              .data = m.data,
                              .bits = Bits::fast,
                              .tensor = m.tensor,
                              .sequence = sequence};
                INFO(text_of(s, a));
                auto const& want = wanted(s, Bits::fast);
                auto got = outcomes(s, a).front();
                for (std::size_t i = 0; i < got.loss.size(); ++i)
                    CHECK(std::abs(got.loss[i] - want.loss[i]) < (compute == f32 ? 1e-5 : 5e-3));
            }
}
