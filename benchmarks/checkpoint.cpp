// How long a training step stands still for a checkpoint that is written while training goes on, against a
// copy of the same bytes alone. Prints one JSON line.
#include "options.hpp"
#include "plait/comm/threads.hpp"
#include "plait/train/compile.hpp"
#include "plait/train/saving.hpp"

#include <cstring>
#include <filesystem>
#include <limits>

using namespace plait;
using namespace plait::benchmark;

namespace {

void run(std::filesystem::path const& folder, std::int64_t bytes) {
    constexpr int tensors = 64, rounds = 5;
    auto state = std::make_shared<State>(cpu_backend(1));
    for (int i = 0; i < tensors; ++i)
        state->add({make_variable({f32, {bytes / tensors / 4}}, Init::uniform(1), VariableKind::parameter,
                                  fmt::format("blocks.{}.weight", i))});
    state->allocate();
    run_ranks(1, [&](Communicator& world) {
        SharedState const shared(world, state);
        CheckpointSaver saver(shared, folder, CheckpointSaver::From::snapshot);
        std::vector<std::byte> to(static_cast<std::size_t>(state->bytes()));
        double copy = std::numeric_limits<double>::infinity(), stall = copy, written = 0;
        for (int round = 1; round <= rounds; ++round) {
            copy = std::min(copy, seconds([&] { std::memcpy(to.data(), state->memory(), to.size()); }));
            Manifest manifest;
            manifest.step = round;
            stall = std::min(stall, seconds([&] { saver.start(manifest, 1); }));
            written = seconds([&] { check(saver.wait()->error.empty(), "not saved"); });
        }
        fmt::print(
            "{{\"bytes\": {}, \"copy_seconds\": {:.6f}, \"stall_seconds\": {:.6f}, "
            "\"stall_over_copy\": {:.3f}, \"written_after_seconds\": {:.3f}}}\n",
            state->bytes(), copy, stall, stall / copy, written);
    });
    std::filesystem::remove_all(folder);
}

}  // namespace

int main(int argc, char** argv) {
    return exit_code_of([&] {
        std::string folder = "runs/benchmark_checkpoint";
        std::int64_t mebibytes = 256;
        Options{"checkpoint",
                "usage: checkpoint [--folder FOLDER] [--mib N]",
                {},
                {{"--folder", &folder}},
                {{"--mib", &mebibytes}}}
            .read(argc, argv);
        run(folder, mebibytes << 20);
    });
}
