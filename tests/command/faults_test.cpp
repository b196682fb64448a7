#ifdef PLAIT_COMMAND

#include "command.hpp"

#include <optional>
#include <random>
#include <set>

namespace {

/// A run that saves often and has the same bits on any number of ranks.
Arguments saving_run(std::filesystem::path const& out, Arguments const& more = {}) {
    return small_run(out, Arguments{"--bits=layout", "--data.batch=8", "--model.layers=1", "--run.threads=1",
                                    "--model.dropout=0.1"} +
                              more);
}

std::vector<std::string> hashes(std::filesystem::path const& run) { return column(run, "params_hash"); }

bool leaves_files_aside(std::filesystem::path const& run) {
    std::error_code none;
    for (auto const& e : std::filesystem::directory_iterator(run / "checkpoints", none))
        if (e.path().filename().string().starts_with(".saving-")) return true;
    return false;
}

/// Kills a run, resumed on 1 and 2 ranks in turn, at random moments until `kills` have struck it; runs that
/// come to their end meanwhile are begun anew. All rows of all runs are those of the run never stopped.
void kill_and_resume(int kills, unsigned seed) {
    ScratchFolder folder;
    Arguments const more{"--run.steps=60", "--checkpoint.every=3", "--checkpoint.keep=2"};
    auto const start = std::chrono::steady_clock::now();
    good(saving_run(folder / "whole", more));
    std::chrono::duration<double> const whole = std::chrono::steady_clock::now() - start;
    auto const wanted = hashes(folder / "whole");
    REQUIRE(wanted.size() == 60);
    REQUIRE(std::set<std::string>(wanted.begin(), wanted.end()).size() == 60);

    std::mt19937 random(seed);
    std::uniform_real_distribution<double> moment(0, 0.9 * whole.count());
    int struck = 0, runs = 0, resumed = 0, torn = 0;
    while (struck < kills) {
        auto const run = folder / ("run" + std::to_string(runs++));
        for (int turn = 0;; ++turn) {
            // Near the end of the budget the run is let go.
            auto arguments = saving_run(
                run, more + Arguments{"--run.cluster=" + std::string(turn % 2 ? "threads:2" : "self")});
            if (turn > 0) arguments.push_back("--resume");
            Process process(arguments, SOURCE_DIR);
            if (struck < kills) {
                std::this_thread::sleep_for(std::chrono::duration<double>(moment(random)));
                process.signal(SIGKILL);
            }
            auto f = process.wait();
            CAPTURE(runs, turn, f.out, f.err);
            REQUIRE((f.code == 0 || f.code == 128 + SIGKILL));
            REQUIRE_FALSE(f.out.find("skipped step-") != std::string::npos);  // nothing half in its place
            resumed += f.out.find(", from ") != std::string::npos;
            if (f.code == 0) break;
            ++struck;
            torn += leaves_files_aside(run);
        }
        REQUIRE(hashes(run) == wanted);
        REQUIRE_FALSE(leaves_files_aside(run));
    }
    WARN(kills << " kills, " << runs << " runs, " << resumed << " times resumed from a checkpoint, " << torn
               << " times killed within a save");
    CHECK(resumed > 0);
}

/// A run of 4 steps with a fault at call `call` of its saves, and a start after it. Gives the exit code of
/// the run.
int fault_at(long call, std::string const& fault, bool lasts, std::vector<std::string> const& wanted) {
    ScratchFolder folder;
    auto const run = folder / "a";
    Arguments const more{"--run.steps=4", "--checkpoint.every=2", "--checkpoint.keep=1"};
    CAPTURE(call, fault, lasts);
    Finished f;
    {
        EnvironmentVariable const library("LD_PRELOAD", PLAIT_FAULTY_FILES),
            kind("PLAIT_FAULT", fault.c_str()), at("PLAIT_FAULT_CALL", std::to_string(call).c_str());
        std::optional<EnvironmentVariable> all;
        if (lasts) all.emplace("PLAIT_FAULT_LASTS", "1");
        f = plait(saving_run(run, more));
    }
    CAPTURE(f.out, f.err);
    REQUIRE((f.code == 0 || f.code == 1));
    REQUIRE(hashes(run) == wanted);  // training went on
    if (f.code == 1) REQUIRE_THAT(f.err, ContainsSubstring("step 4: "));
    if (fault == "short") {
        REQUIRE(f.code == 0);
        REQUIRE(f.out.find("not saved") == std::string::npos);
    } else if (f.code == 1) {
        REQUIRE(std::count(f.err.begin(), f.err.end(), '\n') == 1);
    }
    auto const again = good(saving_run(run, more + Arguments{"--resume"}));
    CAPTURE(again.out);
    REQUIRE(again.out.find("skipped step-") == std::string::npos);
    bool const finished = again.out.find("finished: ") != std::string::npos;
    REQUIRE((finished || (f.code == 1 && again.out.find("done: 4") != std::string::npos)));
    REQUIRE(hashes(run) == wanted);
    return f.code;
}

/// Goes through every `stride`th call of the saves of a run.
void faults(long stride) {
    ScratchFolder folder;
    Arguments const more{"--run.steps=4", "--checkpoint.every=2", "--checkpoint.keep=1"};
    {
        auto const count = folder / "count";
        EnvironmentVariable const library("LD_PRELOAD", PLAIT_FAULTY_FILES),
            to("PLAIT_FAULT_COUNT", count.c_str());
        good(saving_run(folder / "whole", more));
    }
    auto const wanted = hashes(folder / "whole");
    auto const calls = std::stol(get_text(folder / "count"));
    REQUIRE(wanted.size() == 4);
    REQUIRE(calls > 100);  // two saves
    int runs = 0, failures = 0;
    for (long call = 1; call <= calls; call += stride) {
        fault_at(call, "ENOSPC", false, wanted);
        fault_at(call + stride / 3, "EIO", false, wanted);
        failures += fault_at(call + stride / 2, "ENOSPC", true, wanted);
        ++runs;
        if (call % 10 == 1) fault_at(call, "short", true, wanted);
    }
    // A disk that stays full fails the last save, but for faults at its very end.
    CHECK(failures > runs / 2);
}

}  // namespace

TEST_CASE("a run that is killed at random moments ends as the run never stopped") { kill_and_resume(20, 1); }
TEST_CASE("a run that is killed 200 times ends as the run never stopped", "[slow]") {
    kill_and_resume(200, 2);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("a full disk and I/O errors in a save harm neither training nor what was saved") { faults(30); }
TEST_CASE("the same at every call of a save", "[slow]") { faults(1); }
#endif

TEST_CASE("a flipped bit in a checkpoint is told with file and tensor, and the one before is used") {
    ScratchFolder folder;
    auto const run = folder / "a";
    good(small_run(run, {"--checkpoint.every=5"}));
    auto const wanted = hashes(run);
    auto const file = run / "checkpoints" / "step-00000010" / "weights.safetensors";
    auto text = get_text(file);
    text[text.size() - 1000] = static_cast<char>(text[text.size() - 1000] ^ 16);
    put_text(file, text);
    auto f = good(small_run(run, {"--resume", "--checkpoint.every=5"}));
    CHECK_THAT(f.out,
               ContainsSubstring("skipped step-00000010: " + file.string() + " is damaged in tensor \""));
    CHECK_THAT(f.out, ContainsSubstring("steps 6 to 10"));
    CHECK(hashes(run) == wanted);
}

TEST_CASE("a second run in the same folder is refused, and the lock goes with the process") {
    ScratchFolder folder;
    auto const run = folder / "a";
    Arguments const more{"--run.steps=100000", "--model.layers=1"};
    Process process(small_run(run, more), SOURCE_DIR);
    await_step(run, 2);
    for (auto const& how : {Arguments{}, Arguments{"--resume"}}) {
        auto f = plait(small_run(run, more + how));
        CHECK(f.code == 2);
        CHECK_THAT(f.err, ContainsSubstring("another process trains in this folder"));
        CHECK(std::count(f.err.begin(), f.err.end(), '\n') == 1);
    }
    process.signal(SIGKILL);
    CHECK(process.wait().code == 128 + SIGKILL);
    good(small_run(run, {"--run.steps=2", "--resume", "--model.layers=1"}));
}

TEST_CASE("a second signal ends the command in the middle of a step") {
    ScratchFolder folder;
    // A step takes seconds.
    Process process(small_run(folder / "a", {"--model.dim=256", "--model.layers=4", "--data.batch=64",
                                             "--data.seq=256", "--run.validate_batches=1"}),
                    SOURCE_DIR);
    await_step(folder / "a", 0);
    process.signal(SIGTERM);
    process.signal(SIGUSR1);
    auto const code = process.wait().code;
    CHECK((code == 128 + SIGTERM || code == 128 + SIGUSR1));
    CHECK(column(folder / "a", "step") == std::vector<std::string>{"0"});
}

#endif
