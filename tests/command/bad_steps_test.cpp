#ifdef PLAIT_COMMAND

#include "command.hpp"

#include <random>

namespace {

/// A text that is learnt in no time, but for a stretch that cannot be.
std::string text_with_noise() {
    std::string text;
    std::mt19937 random(3);
    while (text.size() < 80000) text += "the same again\n";
    for (int i = 0; i < 1500; ++i) text += static_cast<char>('!' + random() % 90);
    while (text.size() < 160000) text += "the same again\n";
    return text;
}

struct Noise {
    ScratchFolder folder;
    Noise() { put_text(folder / "text" / "a.txt", text_with_noise()); }

    Arguments run(std::string const& name, Arguments const& more = {}) const {
        return small_run(folder / name,
                         Arguments{"--data.path=" + (folder / "text").string(), "--data.validation=0",
                                   "--data.batch=8", "--bits=layout", "--optimizer.rate=1e-2",
                                   "--optimizer.warmup=5", "--optimizer.curve=constant", "--run.steps=300",
                                   "--run.threads=1", "--optimizer.spike=2", "--optimizer.skips=200"} +
                             more);
    }
    std::vector<std::string> hashes(std::string const& name) const {
        return column(folder / name, "params_hash");
    }
};

int times(std::string const& text, std::string const& part) {
    int n = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

}  // namespace

TEST_CASE("a loss spike is skipped: the weights stay, on one rank and two, and when stopped and resumed") {
    Noise noise;
    auto const f = good(noise.run("a"));
    auto const hashes = noise.hashes("a");
    REQUIRE(hashes.size() == 300);
    auto const skipped = times(f.out, ": skipped, the weights stay");
    CAPTURE(f.out);
    CHECK((skipped > 0 && skipped < 60));
    int same = 0;
    for (std::size_t i = 1; i < hashes.size(); ++i) {
        bool const stays = hashes[i] == hashes[i - 1];
        same += stays;
        CHECK(stays == (f.out.find(fmt::format("step {}: the loss is", i + 1)) != std::string::npos));
    }
    CHECK(same == skipped);

    // Without the watch every step changes the weights.
    good(noise.run("off", {"--optimizer.spike=0"}));
    auto const off = noise.hashes("off");
    CHECK(std::adjacent_find(off.begin(), off.end()) == off.end());
    CHECK(off != hashes);

    good(noise.run("two", {"--run.cluster=threads:2"}));
    CHECK(noise.hashes("two") == hashes);
    {
        Process process(noise.run("stopped", {"--run.steps=300"}), SOURCE_DIR);
        await_step(noise.folder / "stopped", 200);
        process.signal(SIGTERM);
        CHECK(process.wait().code == 0);
    }
    good(noise.run("stopped", {"--resume"}));
    CHECK(noise.hashes("stopped") == hashes);
}

TEST_CASE("after too many bad steps in a row the run goes back, and on with the data after them") {
    Noise noise;
    Arguments const more{"--optimizer.skips=0", "--optimizer.rollbacks=100", "--checkpoint.every=10"};
    auto const f = good(noise.run("a", more));
    auto const hashes = noise.hashes("a");
    CAPTURE(f.out);
    CHECK(times(f.out, ": back to step ") > 0);
    CHECK_THAT(f.out, ContainsSubstring("(rollback 1 of at most 100); its data goes on at batch "));
    // Steps follow each other, and every one has stored something.
    auto const steps = column(noise.folder / "a", "step");
    REQUIRE(steps.size() == 300);
    for (std::size_t i = 0; i < steps.size(); ++i) CHECK(steps[i] == std::to_string(i + 1));
    CHECK(std::adjacent_find(hashes.begin(), hashes.end()) == hashes.end());

    auto const two = good(noise.run("two", more + Arguments{"--run.cluster=threads:2"}));
    CHECK(noise.hashes("two") == hashes);
    CHECK(times(two.out, ": back to step ") == times(f.out, ": back to step "));

    // As a process that was killed leaves it: from the checkpoint on, the same happens again.
    std::mt19937 random(5);
    for (int turn = 0;; ++turn) {
        REQUIRE(turn < 200);
        auto arguments = noise.run("killed", more);
        if (turn > 0) arguments.push_back("--resume");
        Process process(arguments, SOURCE_DIR);
        if (turn < 5) {
            std::this_thread::sleep_for(std::chrono::milliseconds(200 + random() % 400));
            process.signal(SIGKILL);
        }
        if (process.wait().code == 0) break;
    }
    CHECK(noise.hashes("killed") == hashes);

    auto const last = plait(noise.run("last", {"--optimizer.skips=0"}));
    CHECK(last.code == 1);
    CHECK_THAT(last.err, ContainsSubstring("a spike above"));
    CHECK_THAT(last.err, ContainsSubstring("stopped, the weights stay those of step"));
}

TEST_CASE("what is not finite is skipped and rolled back as often as is allowed, then the run stops") {
    ScratchFolder folder;
    auto f = plait(
        small_run(folder / "a", {"--optimizer.rate=1e30", "--optimizer.warmup=0", "--checkpoint.every=1",
                                 "--checkpoint.keep=9", "--optimizer.skips=2", "--optimizer.rollbacks=1"}));
    CAPTURE(f.out, f.err);
    CHECK(f.code == 1);
    CHECK(times(f.out, ": skipped, the weights stay") >= 2);
    CHECK(times(f.out, "(rollback 1 of at most 1)") == 1);
    CHECK_THAT(f.err, ContainsSubstring("stopped, the weights stay those of step"));
    CHECK(std::count(f.err.begin(), f.err.end(), '\n') <= 2);
    refused(2, "optimizer.rollbacks = 1 (command line): there is no checkpoint to go back to",
            small_run(folder / "b", {"--optimizer.rollbacks=1"}));
}

TEST_CASE("the curves of the learning rate, and an unknown one") {
    ScratchFolder folder;
    auto rates = [&](std::string const& curve) {
        auto const run = folder / curve;
        good(small_run(run, {"--optimizer.curve=" + curve, "--optimizer.rate=1", "--optimizer.min_rate=0",
                             "--optimizer.warmup=2", "--optimizer.decay=0.4", "--model.layers=1"}));
        std::vector<double> values;
        for (auto const& v : column(run, "learning_rate")) values.push_back(std::stod(v));
        REQUIRE(values.size() == 10);
        CHECK(values[0] == 0.5);
        CHECK(values[1] == 1);
        return values;
    };
    CHECK(rates("constant")[9] == 1);
    CHECK(rates("linear")[5] == Approx(0.5));
    CHECK(rates("cosine")[5] == Approx(0.5));
    auto const wsd = rates("wsd");
    CHECK(wsd[5] == 1);
    CHECK(wsd[7] == Approx(0.5));
    CHECK(wsd[9] == 0);
    refused(2, "optimizer.curve = \"wds\" (command line): must be one of cosine, wsd, linear, constant",
            small_run(folder / "x", {"--optimizer.curve=wds"}));
}

#endif
