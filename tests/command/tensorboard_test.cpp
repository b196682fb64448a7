#ifdef PLAIT_COMMAND

#include "command.hpp"

#include <map>

namespace {

using Scalars = std::map<std::string, std::map<int, double>>;  // by tag and step

/// What TensorBoard's own reader finds in a run.
Scalars read_by_tensorboard(std::filesystem::path const& run) {
    auto const python = std::filesystem::path(SOURCE_DIR) / "build/oracle/bin/python";
    if (!std::filesystem::exists(python)) SKIP("no build/oracle; tests/run --setup makes it");
    auto ask = [&](Arguments const& arguments) {
        return Process(arguments, SOURCE_DIR, python.c_str()).wait();
    };
    if (ask({"-c", "import tensorboard"}).code != 0) SKIP("build/oracle has no tensorboard");
    auto f = ask({"tests/command/oracle.py", run.string()});
    INFO(f.err);
    REQUIRE(f.code == 0);
    Scalars scalars;
    for (auto const& line : lines_of(f.out)) {
        auto const value = line.find(' ') + 1, tag = line.find(' ', value) + 1;
        scalars[line.substr(tag)][std::stoi(line)] = std::stod(line.substr(value));
    }
    return scalars;
}

/// A column of metrics.jsonl by step, as TensorBoard has it: in f32.
std::map<int, double> rows_of(std::filesystem::path const& run, std::string const& key, double factor = 1) {
    std::map<int, double> rows;
    for (auto const& row : lines_of(get_text(run / "metrics.jsonl")))
        if (auto v = value_in(row, key); !v.empty() && v != "null")
            rows[std::stoi(value_in(row, "step"))] =
                static_cast<double>(static_cast<float>(std::stod(v) * factor));
    return rows;
}

int event_files(std::filesystem::path const& run) {
    int n = 0;
    for (auto const& e : std::filesystem::directory_iterator(run))
        n += e.path().filename().string().starts_with("events.out.tfevents.");
    return n;
}

void same_numbers(std::filesystem::path const& run) {
    auto const scalars = read_by_tensorboard(run);
    std::tuple<char const*, char const*, double> const tags[] = {
        {"loss_metrics/global_avg_loss", "loss", 1},
        {"validation_metrics/loss", "validation_loss", 1},
        {"validation_metrics/bits_per_byte", "validation_bits_per_byte", 1},
        {"grad_norm", "grad_norm", 1},
        {"lr", "learning_rate", 1},
        {"n_tokens_seen", "tokens", 1},
        {"throughput(tps)", "tokens_per_second", 1},
        {"time_metrics/end_to_end(s)", "step_seconds", 1},
        {"memory/max_active(GiB)", "memory_peak_bytes", 1.0 / (1 << 30)}};
    for (auto const& [tag, key, factor] : tags) {
        INFO(tag);
        REQUIRE(scalars.count(tag) == 1);
        CHECK(scalars.at(tag) == rows_of(run, key, factor));
    }
}

}  // namespace

TEST_CASE("TensorBoard reads the numbers of a run, and of one that went back and on") {
    ScratchFolder folder;
    auto const run = folder / "a";
    Arguments const more{"--run.tensorboard=true", "--run.validate_every=3", "--data.seq=16",
                         "--run.threads=1",        "--checkpoint.every=4",   "--checkpoint.keep=9"};
    good(small_run(run, more));
    CHECK(event_files(run) == 1);
    same_numbers(run);

    // Steps 5 to 10 are done again, with other numbers, as when a crash came before the next checkpoint.
    for (auto const* late : {"step-00000008", "step-00000010"})
        std::filesystem::remove_all(run / "checkpoints" / late);
    auto const before = rows_of(run, "loss");
    auto f = good(small_run(run, more + Arguments{"--resume", "--optimizer.rate=0.1"}));
    CHECK_THAT(f.out, ContainsSubstring("rows after step 4 were cut"));
    CHECK(rows_of(run, "loss") != before);
    CHECK(event_files(run) == 2);
    same_numbers(run);
}

TEST_CASE("a run writes event files only when it is told to") {
    ScratchFolder folder;
    good(small_run(folder / "a", {"--run.steps=1"}));
    CHECK(event_files(folder / "a") == 0);
}

#endif
