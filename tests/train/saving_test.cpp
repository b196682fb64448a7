#ifdef PLAIT_HAS_JSON

#include "plait/train/saving.hpp"

#include "plait/comm/threads.hpp"
#include "plait/train/compile.hpp"
#include "scratch.hpp"

#include <algorithm>
#include <limits>

using namespace plait;

namespace {

std::shared_ptr<State> make_state(std::int64_t rows = 64) {
    auto state = std::make_shared<State>(cpu_backend(1));
    std::vector<std::shared_ptr<Variable>> all;
    for (auto const* path : {"a", "b", "c"}) {
        all.push_back(make_variable({f32, {rows, 5}}, Init::normal(0.02), VariableKind::parameter, path));
        all.push_back(make_variable({f32, {rows, 5}}, Init::zeros(), VariableKind::optimizer,
                                    std::string("optimizer.") + path));
    }
    state->add(all);
    state->allocate();
    return state;
}

void fill(State& state, float x) {
    for (auto const& v : state.variables()) {
        auto a = state.read(*v);
        std::fill(a.values<float>().begin(), a.values<float>().end(), x);
        state.write(*v, a);
    }
}

/// Whether the checkpoint holds x everywhere.
bool holds(std::filesystem::path const& run, std::int64_t step, float x) {
    auto found = find_checkpoint(run);
    if (!found.checkpoint || found.checkpoint->manifest.step != step) return false;
    auto state = make_state();
    found.checkpoint->copy_weights_to(parameter_arrays(*state));
    found.checkpoint->copy_optimizer_to(non_parameter_arrays(*state));
    for (auto const& v : state->variables()) {
        auto const a = state->read(*v);
        for (std::int64_t i = 0; i < a.meta().elements(); ++i)
            if (a.at(i) != x) return false;
    }
    return true;
}

Manifest at_step(std::int64_t step) {
    Manifest m;
    m.step = step;
    return m;
}

using From = CheckpointSaver::From;

}  // namespace

TEST_CASE("what is saved is the state of the moment when the save began, though training goes on") {
    for (int ranks : {1, 2, 3}) {
        ScratchFolder folder;
        run_ranks(ranks, [&](Communicator& world) {
            auto state = make_state();
            SharedState shared(world, state);
            CheckpointSaver saver(shared, folder.path(), From::snapshot);
            check(saver.bytes() == shared.snapshot_bytes() && saver.bytes() > 0, "{} bytes", saver.bytes());
            check(!saver.under_way() && !saver.wait(), "nothing is under way");
            for (int step = 1; step <= 3; ++step) {
                fill(*state, static_cast<float>(step));
                saver.start(at_step(step), 2);
                check(saver.under_way(), "a save is under way");
                // A save that reads the state itself would find this.
                fill(*state, -1);
                std::optional<SaveOutcome> outcome;
                // As a training loop does: no rank decides alone.
                for (int steps = 0; !outcome && step < 3; ++steps) {
                    std::int64_t busy = saver.busy();
                    take_largest(world, std::span(&busy, 1));
                    if (!busy) outcome = saver.advance();
                }
                if (step == 3) outcome = saver.wait();
                check(outcome && outcome->step == step && outcome->error.empty(), "not saved");
                check(outcome->folder == folder / "checkpoints" / fmt::format("step-{:08}", step), "in {}",
                      outcome->folder);
                if (world.rank() == 0)
                    check(holds(folder.path(), step, static_cast<float>(step)), "{}", step);
                world.barrier().wait();
            }
        });
    }
}

TEST_CASE("without a copy a save reads the state itself: what comes between is saved") {
    ScratchFolder folder;
    run_ranks(1, [&](Communicator& world) {
        auto state = make_state();
        SharedState shared(world, state);
        CheckpointSaver saver(shared, folder.path(), From::memory);
        check(saver.bytes() == 0, "no copy");
        fill(*state, 2);
        saver.start(at_step(1), 2);
        check(saver.wait()->error.empty(), "not saved");
        check(holds(folder.path(), 1, 2), "the state");
    });
}

TEST_CASE("the snapshots of all ranks together are one copy of every distinct block") {
    for (int ranks : {1, 2, 4}) {
        std::vector<std::int64_t> bytes(static_cast<std::size_t>(ranks));
        run_ranks(ranks, [&](Communicator& world) {
            SharedState shared(world, make_state());
            bytes[static_cast<std::size_t>(world.rank())] = shared.snapshot_bytes();
        });
        std::int64_t sum = 0;
        for (auto b : bytes) sum += b;
        CHECK(sum == make_state()->bytes());
    }
}

TEST_CASE("a save that fails is told on every rank alike, and the next one works") {
    ScratchFolder folder;
    run_ranks(2, [&](Communicator& world) {
        auto state = make_state();
        SharedState shared(world, state);
        CheckpointSaver saver(shared, folder.path(), From::snapshot);
        fill(*state, 1);
        saver.start(at_step(1), 2);
        check(saver.wait()->error.empty(), "not saved");
        // A weight that rank 1 writes.
        for (auto const& v : state->variables()) {
            if (v->kind != VariableKind::parameter) continue;
            auto a = state->read(*v);
            a.values<float>()[3] = std::numeric_limits<float>::infinity();
            state->write(*v, a);
        }
        saver.start(at_step(2), 2);
        auto const outcome = saver.wait();
        check(contains(outcome->error, "is not finite at element 3"), "told: {}", outcome->error);
        check(outcome->folder.empty() && !saver.under_way(), "ended");
        auto const all = gather_texts(world, outcome->error);
        check(all[0] == all[1], "{} / {}", all[0], all[1]);
        if (world.rank() == 0) check(holds(folder.path(), 1, 1), "the one before");
        world.barrier().wait();
        fill(*state, 3);
        saver.start(at_step(3), 2);
        check(saver.wait()->error.empty(), "not saved");
        if (world.rank() == 0) check(holds(folder.path(), 3, 3), "the next one");
    });
    // No place for it: told at the start.
    put_text(folder / "b" / "checkpoints", "a file");
    run_ranks(2, [&](Communicator& world) {
        SharedState shared(world, make_state());
        CheckpointSaver saver(shared, folder / "b", From::snapshot);
        auto told = message_of<AgreedError>([&] { saver.start(at_step(1), 2); });
        check(contains(told, "cannot make the folder"), "{}", told);
        check(!saver.under_way(), "ended");
    });
}

#endif
