#ifdef PLAIT_COMMAND

#include "command.hpp"

TEST_CASE("a folder that holds a run is refused without --resume, and a finished run says so") {
    ScratchFolder folder;
    good(small_run(folder / "a"));
    refused(2, "holds a run already", small_run(folder / "a"));
    auto f = good(small_run(folder / "a", {"--resume"}));
    CHECK_THAT(f.out, ContainsSubstring("finished: "));
    CHECK(column(folder / "a", "step").size() == 11);
}

TEST_CASE("resuming with nothing saved starts at step 0 and says so") {
    ScratchFolder folder;
    auto f = good(small_run(folder / "a", {"--resume", "--run.steps=2"}));
    CHECK_THAT(f.out, ContainsSubstring("nothing is saved"));
    CHECK_THAT(f.out, ContainsSubstring("starting at step 0"));
    CHECK(column(folder / "a", "step") == std::vector<std::string>{"0", "1", "2"});
}

TEST_CASE(
    "other models, batches and seeds are refused on resume with the key; the rest goes on with a note") {
    ScratchFolder folder;
    good(small_run(folder / "a"));
    refused(2, "model.dim = 64", small_run(folder / "a", {"--resume", "--model.dim=64"}));
    refused(2, "model.family = \"gpt2\"", small_run(folder / "a", {"--resume", "--model.family=gpt2"}));
    refused(2, "data.batch = 8", small_run(folder / "a", {"--resume", "--data.batch=8"}));
    refused(2, "data.seq = 16", small_run(folder / "a", {"--resume", "--data.seq=16"}));
    refused(2, "run.seed = 2", small_run(folder / "a", {"--resume", "--run.seed=2"}));

    auto f =
        good(small_run(folder / "a", {"--resume", "--run.steps=12", "--run.threads=1", "--data.path=docs"}));
    CHECK_THAT(f.out, ContainsSubstring("changed since the checkpoint: run.steps = 12, was 10"));
    CHECK_THAT(f.out, ContainsSubstring("the text has changed since the checkpoint"));
    CHECK(column(folder / "a", "step").size() == 13);
}

TEST_CASE("rows after the checkpoint are cut on resume, and the run ends as if never stopped") {
    ScratchFolder folder;
    Arguments const more{"--checkpoint.every=4", "--model.dropout=0.1"};
    good(small_run(folder / "a", more));
    auto const hashes = column(folder / "a", "params_hash");
    // As a killed process leaves it: rows up to 10, the newest checkpoint at 8 but not yet `latest`, half a
    // row.
    put_text(folder / "a" / "checkpoints" / "latest", "step-00000004\n");
    std::filesystem::remove_all(folder / "a" / "checkpoints" / "step-00000010");
    put_text(folder / "a" / "metrics.jsonl",
             get_text(folder / "a" / "metrics.jsonl") + "{\"step\": 11, \"lo");
    auto const interrupted = small_run(folder / "a", more + Arguments{"--resume"});
    // A rank that is sent away for another reason has put it right already.
    refused(2, "data.batch = 8", interrupted + Arguments{"--data.batch=8"});
    CHECK(get_text(folder / "a" / "checkpoints" / "latest") == "step-00000008\n");
    auto f = good(interrupted);
    CHECK_THAT(f.out, ContainsSubstring("3 rows after step 8 were cut"));
    CHECK(column(folder / "a", "params_hash") == hashes);
    CHECK(column(folder / "a", "step").size() == 11);
}

TEST_CASE("weights that are bf16 alone end as if never stopped, and generate") {
    ScratchFolder folder;
    Arguments const more{"--optimizer.master=bf16", "--plan.compute=bf16", "--checkpoint.every=4"};
    good(small_run(folder / "a", more + Arguments{"--run.sample_every=5", "--run.sample_tokens=3"}));
    auto const hashes = column(folder / "a", "params_hash");
    for (auto const* file : {"step-00000010", "latest"})
        std::filesystem::remove_all(folder / "a" / "checkpoints" / file);
    put_text(folder / "a" / "checkpoints" / "latest", "step-00000008\n");
    good(small_run(folder / "a", more + Arguments{"--resume"}));
    CHECK(column(folder / "a", "params_hash") == hashes);
    good({"generate", folder / "a", "--prompt=a", "--tokens=4", "--quiet"});
    good(small_run(folder / "wide", {"--plan.compute=bf16"}));
    CHECK(column(folder / "wide", "params_hash") != hashes);
    refused(2, "optimizer.master = \"f32\"",
            small_run(folder / "a", {"--resume", "--plan.compute=bf16", "--checkpoint.every=4"}));
}

TEST_CASE("a truncated checkpoint is skipped with a note; when all are damaged nothing is overwritten") {
    ScratchFolder folder;
    good(small_run(folder / "a", {"--checkpoint.every=5"}));
    auto const hashes = column(folder / "a", "params_hash");
    auto truncate = [&](std::string const& step) {
        auto file = folder / "a" / "checkpoints" / step / "optimizer.safetensors";
        std::filesystem::resize_file(file, std::filesystem::file_size(file) - 100);
    };
    truncate("step-00000010");
    auto f = good(small_run(folder / "a", {"--resume", "--checkpoint.every=5"}));
    CHECK_THAT(f.out, ContainsSubstring("skipped step-00000010"));
    CHECK_THAT(f.out, ContainsSubstring("truncated"));
    CHECK_THAT(f.out, ContainsSubstring("steps 6 to 10"));
    CHECK(column(folder / "a", "params_hash") == hashes);

    truncate("step-00000005");
    truncate("step-00000010");
    refused(2, "truncated", small_run(folder / "a", {"--resume", "--checkpoint.every=5"}));
    CHECK(column(folder / "a", "params_hash") == hashes);
}

TEST_CASE("SIGTERM and SIGUSR1 save and end with 0, and the run's own config.toml goes on") {
    ScratchFolder folder;
    good(small_run(folder / "whole", {"--run.steps=400", "--model.layers=1"}));
    for (int signal : {SIGTERM, SIGUSR1}) {
        auto run = folder / std::to_string(signal);
        {
            Process process(small_run(run, {"--run.steps=400", "--model.layers=1"}), SOURCE_DIR);
            await_step(run, 3);
            process.signal(signal);
            auto f = process.wait();
            CHECK(f.code == 0);
            CHECK_THAT(f.out, ContainsSubstring("go on with: plait train --config " +
                                                (run / "config.toml").string() + " --resume"));
        }
        CHECK(column(run, "step").size() < 401);
        good({"train", "--config", (run / "config.toml").string(), "--resume"});
        CHECK(column(run, "params_hash") == column(folder / "whole", "params_hash"));
    }
}

#endif
