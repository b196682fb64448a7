// The same bits over data, tensor and pipeline, on every schedule.
#include "catch.hpp"
#include "laws/pipelines.hpp"

#include <cmath>

using namespace plait;
using namespace tests;

namespace {

void check_law(std::vector<Choices> const& rows, std::size_t of) {
    check_bits_of_one_rank(rows, pipeline_case, true);
    fmt::print("{} layouts of {} over data, tensor and pipeline have the bits of one rank\n", rows.size(),
               of);
}

void check_fast(Subject s, Arrangement const& a) {
    auto const parts = a.micro * a.blocks();
    s.batch = s.batch / parts * parts;
    INFO(text_of(s, a));
    auto const& want = wanted(s, Bits::fast);
    for (auto const& got : outcomes(s, a))
        for (std::size_t i = 0; i < want.loss.size(); ++i)
            CHECK(std::abs(got.loss[i] - want.loss[i]) < (s.compute == f32 ? 1e-5 : 5e-3));
}

/// Cases of their own, as each takes minutes.
void check_model(int model) {
    auto rows = broad_pipeline_table();
    auto const of = rows.size();
    std::erase_if(rows, [&](Choices const& c) { return c[0] != model; });
    check_law(rows, of);
}

}  // namespace

TEST_CASE("every layout over the pipeline axis has the bits of one rank") {
    auto const all = pipeline_table();
    check_law(pairwise(all), all.size());
}

TEST_CASE("all layouts of Llama over the pipeline axis have the bits of one rank", "[slow]") {
    check_model(0);
}
TEST_CASE("all layouts of an untied Llama over the pipeline axis have the bits of one rank", "[slow]") {
    check_model(1);
}
TEST_CASE("all layouts of a grouped-query Llama over the pipeline axis have the bits of one rank", "[slow]") {
    check_model(2);
}
TEST_CASE("all layouts of GPT-2 over the pipeline axis have the bits of one rank", "[slow]") {
    check_model(3);
}

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
                check_fast(s, a);
            }
}

TEST_CASE("fast layouts that divide state over a pipeline have the losses of one rank, nearly") {
    for (std::size_t model : {0, 1, 3})
        for (int zero : {1, 2, 3}) {
            auto const s = pipeline_subjects()[model];
            check_fast(s, {.data = 2, .micro = 3, .zero = zero, .bits = Bits::fast, .pipeline = 2});
        }
}
