#ifdef PLAIT_HAS_JSON

#include "plait/core/array.hpp"
#include "plait/io/checkpoint.hpp"
#include "plait/io/file.hpp"

#include "catch.hpp"
#include "faulty_files/faulty_files.hpp"
#include "scratch.hpp"

#include <cerrno>

using namespace plait;
namespace fs = std::filesystem;

namespace {

/// No call fails any more when it goes.
struct Fault {
    Fault(long call, int error, bool lasts) { faulty_files_set(call, error, lasts); }
    ~Fault() { faulty_files_set(0, 0, false); }
};

void save(fs::path const& run, std::int64_t step) {
    Array w(Meta{f32, {600}});
    for (auto& x : w.values<float>()) x = static_cast<float>(step);
    Manifest m;
    m.step = m.data_cursor = step;
    std::vector<NamedArray> weights{{"w", w.meta(), w.bytes()}}, moments{{"w.m", w.meta(), w.bytes()}};
    save_checkpoint(run, m, weights, moments, 2);
}

/// The step of the newest whole checkpoint, whose values are read.
std::int64_t newest(fs::path const& run) {
    auto found = find_checkpoint(run);
    check(found.notes.empty(), "half a checkpoint: {}", found.notes.empty() ? "" : found.notes[0]);
    check(found.checkpoint.has_value(), "no checkpoint");
    Array w(Meta{f32, {600}}), m(Meta{f32, {600}});
    found.checkpoint->copy_weights_to(std::vector<NamedArray>{{"w", w.meta(), w.bytes()}});
    found.checkpoint->copy_optimizer_to(std::vector<NamedArray>{{"w.m", m.meta(), m.bytes()}});
    auto const step = found.checkpoint->manifest.step;
    for (int i = 0; i < 600; ++i)
        check(w.at(i) == static_cast<double>(step) && m.at(i) == w.at(i), "step {} holds {}", step, w.at(i));
    return step;
}

std::vector<std::string> names(fs::path const& run) {
    std::vector<std::string> found;
    for (auto const& e : fs::directory_iterator(run / "checkpoints")) found.push_back(e.path().filename());
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace

TEST_CASE("a fault at any call of a save leaves a whole checkpoint, and the next save works") {
    struct Kind {
        int error;
        bool lasts;
        char const* reason;
    };
    auto const kind =
        GENERATE(Kind{ENOSPC, false, "No space left on device"}, Kind{EIO, false, "Input/output"},
                 Kind{ENOSPC, true, "No space left on device"}, Kind{-1, true, "short"});
    // One older checkpoint is kept and one goes; or the save replaces one of the same step.
    auto const replaces = GENERATE(false, true);
    auto prepare = [&](fs::path const& run) {
        for (std::int64_t step = 1; step <= 2 + replaces; ++step) save(run, step);
    };
    long calls = 0;
    {
        ScratchFolder folder;
        prepare(folder.path());
        Fault none(0, 0, false);
        save(folder.path(), 3);
        calls = faulty_files_calls();
    }
    REQUIRE((calls > 20 && calls < 60));
    int failures = 0;
    for (long call = 1; call <= calls; ++call) {
        ScratchFolder folder;
        prepare(folder.path());
        CAPTURE(kind.reason, kind.lasts, replaces, call);
        std::string message;
        {
            Fault fault(call, kind.error, kind.lasts);
            message = message_of<Error>([&] { save(folder.path(), 3); });
        }
        failures += !message.empty();
        auto const step = newest(folder.path());
        REQUIRE((step == 3 || (step == 2 && !message.empty() && !replaces)));
        if (!message.empty()) REQUIRE(contains(message, kind.reason));
        REQUIRE_FALSE(contains(message, "\n"));
        save(folder.path(), 4);
        REQUIRE(newest(folder.path()) == 4);
        REQUIRE(names(folder.path()) ==
                std::vector<std::string>{"latest", step == 3 ? "step-00000003" : "step-00000002",
                                         "step-00000004"});
    }
    // A short write is no failure.
    CHECK((kind.error < 0 ? failures == 0 : failures > 15));
}

TEST_CASE("a lock on a file is held by one at a time and goes with its holder") {
    ScratchFolder folder;
    {
        FileLock one(folder / "lock");
        CHECK(one.held());
        CHECK_FALSE(FileLock(folder / "lock").held());
        auto moved = std::move(one);
        CHECK(moved.held());
        CHECK_FALSE(FileLock(folder / "lock").held());
    }
    CHECK(FileLock(folder / "lock").held());
    CHECK(contains(message_of<Error>([&] { FileLock(folder / "no" / "lock"); }), "No such file"));
}

#endif
