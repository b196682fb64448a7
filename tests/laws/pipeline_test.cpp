// The same bits over data, tensor and pipeline, on every schedule.
#include "catch.hpp"
#include "laws/cover.hpp"
#include "laws/ranks.hpp"

#include <cmath>

using namespace plait;
using namespace tests;

namespace {

struct Mesh4 {
    int replica, data, tensor, pipeline;
};
constexpr Mesh4 meshes[] = {{1, 1, 1, 2}, {1, 1, 1, 4}, {1, 2, 1, 2}, {1, 1, 2, 2}, {1, 2, 2, 2},
                            {1, 1, 2, 4}, {1, 2, 1, 4}, {1, 4, 1, 2}, {1, 1, 4, 2}, {2, 1, 1, 2},
                            {2, 2, 1, 2}, {2, 1, 2, 2}, {1, 1, 1, 8}};
constexpr int micros[] = {1, 2, 4, 8};
constexpr std::string_view schedules[] = {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v"};

std::vector<Subject> pipeline_subjects() {
    std::vector<Subject> all{llama(), untied_llama(), grouped_llama(), gpt2()};
    for (auto& s : all) s.config.layers = 4, s.config.vocab = 96, s.granularity = {8, 8, 4};
    auto& deep = all.emplace_back(llama("llama, eight layers"));
    deep.config.layers = 8, deep.config.dim = 32, deep.config.hidden = 48, deep.granularity = {8, 8, 4};
    return all;
}

/// A row: model, compute, mesh, micro-batches, schedule, zero, recompute, sequence.
struct Case {
    Subject subject;
    Arrangement arrangement;

    bool runs() const {
        auto const& a = arrangement;
        bool rounds = a.schedule != "interleaved" || a.micro % a.pipeline == 0;
        return rounds && a.pipeline * a.virtual_stages <= subject.config.layers &&
               a.covered(subject.granularity);
    }
};
Case case_of(Choices const& c) {
    Case one{pipeline_subjects()[static_cast<std::size_t>(c[0])], {}};
    one.subject.compute = c[1] ? bf16 : f32;
    auto m = meshes[c[2]];
    auto schedule = schedules[c[4]];
    one.arrangement = {.replica = m.replica,
                       .data = m.data,
                       .micro = micros[c[3]],
                       .zero = c[5],
                       .recompute = c[6] == 1,
                       .tensor = m.tensor,
                       .sequence = c[7] == 1,
                       .pipeline = m.pipeline,
                       .schedule = std::string(schedule),
                       .virtual_stages = schedule == "interleaved" || schedule == "zb-v" ? 2 : 1};
    return one;
}

std::vector<Choices> table() {
    std::vector<Choices> rows;
    Choices c(8, 0);
    constexpr int sizes[] = {5, 2, std::size(meshes), std::size(micros), std::size(schedules), 4, 2, 2};
    auto fill = [&](auto const& self, std::size_t column) -> void {
        if (column == c.size()) {
            if (case_of(c).runs()) rows.push_back(c);
            return;
        }
        for (c[column] = 0; c[column] < sizes[column]; ++c[column]) self(self, column + 1);
    };
    fill(fill, 0);
    return rows;
}

void check_law(std::vector<Choices> const& rows) {
    check_bits_of_one_rank(rows, case_of, true);
    fmt::print("{} layouts of {} over data, tensor and pipeline have the bits of one rank\n", rows.size(),
               table().size());
}

}  // namespace

TEST_CASE("every layout over the pipeline axis has the bits of one rank") { check_law(pairwise(table())); }

TEST_CASE("all layouts over the pipeline axis have the bits of one rank", "[slow]") { check_law(table()); }

TEST_CASE("fast layouts over the pipeline axis have the losses of one rank, nearly") {
    for (auto compute : {f32, bf16})
        for (auto m : {Mesh4{1, 1, 1, 2}, {1, 2, 1, 2}, {1, 1, 2, 4}})
            for (auto schedule : {"1f1b", "zb-h1"}) {
                auto s = pipeline_subjects().front();
                s.compute = compute;
                Arrangement a{.data = m.data,
                              .micro = 4,
                              .bits = Bits::fast,
                              .tensor = m.tensor > 1 ? m.tensor : 0,
                              .pipeline = m.pipeline,
                              .schedule = schedule};
                INFO(text_of(s, a));
                auto const& want = wanted(s, Bits::fast);
                for (auto const& got : outcomes(s, a))
                    for (std::size_t i = 0; i < got.loss.size(); ++i)
                        CHECK(std::abs(got.loss[i] - want.loss[i]) < (compute == f32 ? 1e-5 : 5e-3));
            }
}
