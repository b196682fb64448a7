#pragma once

#include "laws/cover.hpp"
#include "laws/ranks.hpp"
#include "plait/core/random.hpp"

#include <iterator>

/// Layouts over the pipeline axis.
namespace tests {

struct Mesh4 {
    int replica, data, tensor, pipeline;
};
inline constexpr Mesh4 pipeline_meshes[] = {{1, 1, 1, 2}, {1, 1, 1, 4}, {1, 2, 1, 2}, {1, 1, 2, 2},
                                            {1, 2, 2, 2}, {1, 1, 2, 4}, {1, 2, 1, 4}, {1, 4, 1, 2},
                                            {1, 1, 4, 2}, {2, 1, 1, 2}, {2, 2, 1, 2}, {2, 1, 2, 2},
                                            {1, 1, 1, 8}, {1, 1, 1, 3}, {1, 2, 1, 3}};
inline constexpr int pipeline_micros[] = {1, 2, 4, 8};
inline constexpr std::string_view pipeline_schedules[] = {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v"};

inline int stages_of_rank(std::string_view schedule) {
    return schedule == "interleaved" || schedule == "zb-v" ? 2 : 1;
}

/// GPT and Llama: tied, untied, grouped-query. Thin where there are many layers.
inline std::vector<Subject> pipeline_subjects(int layers = 4) {
    std::vector<Subject> all{llama(), untied_llama(), grouped_llama(), gpt2()};
    for (auto& s : all) {
        s.config.layers = layers, s.config.vocab = 96, s.granularity = {8, 8, 4};
        if (layers > 4) s.config.dim = 32, s.config.hidden = 48, s.name += fmt::format(", {} layers", layers);
    }
    return all;
}

struct PipelineCase {
    Subject subject;
    Arrangement arrangement;

    bool runs() const {
        auto const& a = arrangement;
        bool rounds = a.schedule != "interleaved" || a.micro % a.pipeline == 0;
        return rounds && a.covered(subject.granularity);
    }
};

/// A row: model, mesh, schedule, zero, recompute, compute, micro-batches, sequence.
inline PipelineCase pipeline_case(Choices const& c) {
    auto const& m = pipeline_meshes[c[1]];
    auto const schedule = pipeline_schedules[c[2]];
    auto const virtual_stages = stages_of_rank(schedule);
    auto s = pipeline_subjects(std::max(4, m.pipeline * virtual_stages))[static_cast<std::size_t>(c[0])];
    s.compute = c[5] ? bf16 : f32;
    return {s,
            {.replica = m.replica,
             .data = m.data,
             .micro = pipeline_micros[c[6]],
             .zero = c[3],
             .recompute = c[4] == 1,
             .tensor = m.tensor,
             .sequence = c[7] == 1,
             .pipeline = m.pipeline,
             .schedule = std::string(schedule),
             .virtual_stages = virtual_stages}};
}

/// All rows.
inline std::vector<Choices> pipeline_table() {
    return all_choices({4, std::size(pipeline_meshes), std::size(pipeline_schedules), 4, 2, 2,
                        std::size(pipeline_micros), 2},
                       [](Choices const& c) { return pipeline_case(c).runs(); });
}

/// Every model, mesh, schedule, ZeRO level and recompute; compute, micro-batches and sequence go round. Where
/// nothing lies along data all levels are one program, and level 0 stands for them.
inline std::vector<Choices> broad_pipeline_table() {
    std::vector<Choices> rows;
    std::uint64_t number = 0;
    for (auto row : all_choices({4, std::size(pipeline_meshes), std::size(pipeline_schedules), 4, 2})) {
        if (row[3] && pipeline_meshes[row[1]].data == 1) continue;
        row.resize(8);
        // Interleaved wants whole rounds of micro-batches, which some meshes do not have.
        for (int tries = 0; tries < 32; ++tries) {
            auto const turn = mix(++number);
            row[5] = turn % 2, row[6] = turn / 2 % 4, row[7] = turn / 8 % 2;
            if (!pipeline_case(row).runs()) continue;
            rows.push_back(row);
            break;
        }
    }
    return rows;
}

}  // namespace tests
