#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/device.hpp"

#include "catch.hpp"
#include "plait/cuda/nccl.hpp"
#include "scratch.hpp"

using namespace plait;
using namespace plait::tools;

namespace {

Config config_of(std::vector<Override> overrides) {
    std::vector<Override> all{{"model.dim", "64", "test"},   {"model.layers", "4", "test"},
                              {"model.heads", "4", "test"},  {"data.batch", "16", "test"},
                              {"data.seq", "64", "test"},    {"plan.compute", "bf16", "test"},
                              {"run.device", "cuda", "test"}};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return load_config("", all);
}

}  // namespace

TEST_CASE("a GPU that is found is taken, unless something else that was asked for is of CPUs alone") {
    auto device = [](std::vector<Override> overrides, Launcher const& launcher = {}, int gpus = 1) {
        auto config = load_config("", overrides);
        plan_device(config, launcher, gpus);
        return config.run.device;
    };
    CHECK(device({}) == "cuda");
    CHECK(device({}, {}, 0) == "cpu");
    CHECK(device({{"run.device", "cpu", "test"}}) == "cpu");
    CHECK(device({{"run.cluster", "threads:4", "test"}}) == "cpu");
    CHECK(device({{"run.cluster", "mpi", "test"}}) == "cpu");
    CHECK(device({{"plan.compute", "f64", "test"}}) == "cpu");
    Launcher const two{2, 0, 2, "OMPI_COMM_WORLD_SIZE"};
    CHECK(device({}, two) == (cuda::nccl_available() ? "cuda" : "cpu"));
}

TEST_CASE("what does not fit a GPU is refused with what takes it and what would fit") {
    auto const config = config_of({});
    Mesh const mesh({{"data", 4}}, 0);
    auto const programs = compile_programs(config, mesh, cuda::planning_backend());
    auto const wants = programs.arena_bytes();
    std::int64_t const libraries = (std::int64_t{512} + 2 * 160) << 20;
    CHECK_NOTHROW(check_gpu_memory(config, programs, libraries + wants));
    auto refused = [&](std::int64_t free) {
        return message_of<UsageError>([&] { check_gpu_memory(config, programs, free); });
    };
    auto const little = refused(libraries + wants - 1);
    CHECK(contains(little, "of it: weights"));
    CHECK(contains(little, "--plan."));
    CHECK(contains(refused(libraries + wants / 50), "a smaller model or data.batch, or more GPUs"));
}

#endif
