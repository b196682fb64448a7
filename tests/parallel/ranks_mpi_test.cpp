#include "catch.hpp"
#include "laws/pipelines.hpp"
#include "plait/comm/mpi.hpp"
#include "plait/core/random.hpp"

#include <cstdlib>
#include <functional>

using namespace plait;
using namespace tests;

// Hidden: tests/CMakeLists.txt starts each under mpirun, as MPI serves a process once.

namespace {

/// Trains every layout of the rows on all processes, and one rank in the same process; how many.
int check_rows(std::string const& axis, std::vector<Choices> const& rows,
               std::function<std::pair<Subject, Arrangement>(Choices const&)> const& case_of) {
    int size = 0, layouts = 0;
    REQUIRE_NOTHROW(run_mpi([&](Communicator& world) {
        size = world.size();
        for (auto const& row : rows) {
            auto const [s, a] = case_of(row);
            auto const& want = wanted(s, Bits::layout, true);
            check(train(world, s, a) == want, "{}: rank {} has other bits", text_of(s, a), world.rank());
            ++layouts;
        }
        if (world.rank() == 0) fmt::print("{} layouts over {} have the bits of one rank\n", layouts, axis);
    }));
    CHECK(layouts == static_cast<int>(rows.size()));
    return size;
}

int test_ranks() {
    auto const* ranks = std::getenv("PLAIT_TEST_RANKS");
    return std::atoi(ranks ? ranks : "1");
}

/// Layouts over tensor, or data x tensor, of all processes: model, compute, tensor all or half of them,
/// micro-batches, zero, recompute, sequence.
void check_tensor_layouts(std::function<std::vector<Choices>(std::vector<Choices> const&)> const& cover) {
    auto const ranks = test_ranks();
    auto const rows = all_choices({5, 2, ranks > 2 ? 2 : 1, 2, 4, 2, 2});
    auto case_of = [&](Choices const& c) {
        auto s = subjects()[static_cast<std::size_t>(c[0])];
        s.config.vocab = 96, s.config.kv_heads = 4, s.granularity = {8, 8, 4};
        s.compute = c[1] ? bf16 : f32;
        int const data = c[2] ? 2 : 1;
        return std::pair(s, Arrangement{.data = data,
                                        .micro = 1 + c[3],
                                        .zero = c[4],
                                        .recompute = c[5] == 1,
                                        .tensor = ranks / data,
                                        .sequence = c[6] == 1});
    };
    CHECK(check_rows("tensor", cover(rows), case_of) == ranks);
}

/// Layouts over pipeline, or one of the other axes x pipeline, of all processes: model, mesh, schedule, zero.
/// Recompute, compute, sequence and micro-batches go round.
void check_pipeline_layouts(std::function<std::vector<Choices>(std::vector<Choices> const&)> const& cover) {
    auto const ranks = test_ranks();
    auto const rows = all_choices({4, ranks > 2 ? 3 : 1, std::size(pipeline_schedules), 4},
                                  [](Choices const& c) { return c[1] == 1 || c[3] == 0; });
    auto case_of = [&](Choices const& c) {
        int const data = c[1] == 1 ? 2 : 1, tensor = c[1] == 2 ? 2 : 1, pipeline = ranks / data / tensor;
        auto const schedule = pipeline_schedules[c[2]];
        auto const stages = stages_of_rank(schedule);
        auto s = pipeline_subjects(std::max(4, pipeline * stages))[static_cast<std::size_t>(c[0])];
        std::uint64_t turn = 0;
        for (int choice : c) turn = mix(turn * 8 + static_cast<std::uint64_t>(choice));
        s.compute = turn % 2 ? bf16 : f32;
        return std::pair(s, Arrangement{.data = data,
                                        .micro = turn / 2 % 2 ? 4 : pipeline,
                                        .zero = c[3],
                                        .recompute = turn / 8 % 2 == 1,
                                        .tensor = tensor,
                                        .sequence = turn / 4 % 2 == 1,
                                        .pipeline = pipeline,
                                        .schedule = std::string(schedule),
                                        .virtual_stages = stages});
    };
    CHECK(check_rows("pipeline", cover(rows), case_of) == ranks);
}

}  // namespace

TEST_CASE("processes that divide pipeline have the bits of one rank", "[.][mpi_pipeline]") {
    if (!mpi_available()) SKIP("built without MPI");
    check_pipeline_layouts([](auto rows) {
        std::erase_if(rows, [](Choices const& c) { return c[0] == 1 || c[0] == 2; });
        return pairwise(rows);
    });
}

TEST_CASE("processes that divide pipeline have the bits of one rank on all layouts",
          "[.][mpi_pipeline_all]") {
    if (!mpi_available()) SKIP("built without MPI");
    check_pipeline_layouts([](auto const& rows) { return rows; });
}

TEST_CASE("processes that divide tensor have the bits of one rank", "[.][mpi_tensor]") {
    if (!mpi_available()) SKIP("built without MPI");
    check_tensor_layouts(pairwise);
}

TEST_CASE("processes that divide tensor have the bits of one rank on all layouts", "[.][mpi_tensor_all]") {
    if (!mpi_available()) SKIP("built without MPI");
    check_tensor_layouts([](auto const& rows) { return rows; });
}

TEST_CASE("processes under mpirun have the bits of one rank", "[.][mpi]") {
    if (!mpi_available()) SKIP("built without MPI");
    int size = 0, layouts = 0;
    REQUIRE_NOTHROW(run_mpi([&](Communicator& world) {
        size = world.size();
        for (auto s : {llama(), untied_llama(), dropping_gpt2()})
            for (auto compute : {f32, bf16})
                for (int zero : {0, 1, 2, 3})
                    for (int replica : {1, 2}) {
                        s.compute = compute;
                        Arrangement a{
                            .replica = replica, .data = size / replica, .micro = 1 + zero % 2, .zero = zero};
                        // The hash of one rank is computed here, in the same process.
                        auto const& want = wanted(s);
                        check(train(world, s, a) == want, "{}: rank {} has other bits", text_of(s, a),
                              world.rank());
                        ++layouts;
                    }
    }));
    CHECK(size == test_ranks());
    CHECK(layouts == 48);
}
