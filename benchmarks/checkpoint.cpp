// How long a training step stands still for a checkpoint that is written while training goes on, against a
// copy of the same bytes alone. Prints one JSON line. Usage: checkpoint [FOLDER] [MIB]
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>

#include "plait/comm/threads.hpp"
#include "plait/train/compile.hpp"
#include "plait/train/saving.hpp"

using namespace plait;

namespace {

double seconds(auto const& f) {
    auto const start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
    std::filesystem::path const folder = argc > 1 ? argv[1] : "runs/benchmark_checkpoint";
    auto const bytes = (argc > 2 ? std::atoll(argv[2]) : 256) << 20;
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
