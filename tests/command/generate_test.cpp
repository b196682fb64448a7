#ifdef PLAIT_COMMAND

#include "command.hpp"

namespace {

Arguments generate(std::filesystem::path const& run, Arguments const& more = {}, int tokens = 40) {
    return Arguments{"generate", run.string(), "--prompt", "The model ", "--tokens", std::to_string(tokens)} +
           more;
}

}  // namespace

TEST_CASE("generation goes on from the prompt, the same for one seed and another for another") {
    ScratchFolder folder;
    good(small_run(folder / "a", {"--run.steps=30", "--optimizer.rate=1e-2", "--checkpoint.every=10"}));
    auto text = good(generate(folder / "a")).out;
    CHECK(text.starts_with("The model "));
    CHECK(text.ends_with("\n"));
    CHECK(text.size() == 10 + 40 + 1);
    CHECK(good(generate(folder / "a")).out == text);
    CHECK(good(generate(folder / "a", {"--seed", "2"})).out != text);

    auto greedy = good(generate(folder / "a", {"--temperature", "0"})).out;
    CHECK(good(generate(folder / "a", {"--temperature", "0", "--seed", "2"})).out == greedy);
    CHECK(good({"generate", (folder / "a").string(), "--tokens", "5"}).out.size() == 6);
    // Longer than the window of 32.
    CHECK(good(generate(folder / "a", {}, 100)).out.substr(0, 50) == text.substr(0, 50));

    auto before = good(generate(folder / "a", {"--checkpoint", "step-00000020"})).out;
    CHECK(before != text);
    refused(2, "step-00000099", generate(folder / "a", {"--checkpoint", "step-00000099"}));

    auto newest = folder / "a" / "checkpoints" / "step-00000030" / "weights.safetensors";
    std::filesystem::resize_file(newest, std::filesystem::file_size(newest) / 2);
    auto f = plait(generate(folder / "a"));
    CHECK(f.code == 0);
    CHECK(f.out == before);
    CHECK_THAT(f.err, ContainsSubstring("skipped step-00000030"));
    std::filesystem::resize_file(newest.parent_path().parent_path() / "step-00000020" / "weights.safetensors",
                                 9);
    refused(2, "no checkpoint that can be read", generate(folder / "a"));
}

TEST_CASE("generation needs a run with a checkpoint") {
    ScratchFolder folder;
    refused(2, "holds no run", generate(folder / "none"));
    good(small_run(folder / "a", {"--run.steps=1", "--model.family=gpt2"}));
    CHECK(good(generate(folder / "a")).out.size() == 51);
    std::filesystem::remove_all(folder / "a" / "checkpoints");
    refused(2, "has no checkpoint yet", generate(folder / "a"));
    refused(2, "--temperature", generate(folder / "a", {"--temperature", "-1"}));
}

TEST_CASE("a run in bf16 generates too") {
    ScratchFolder folder;
    good(small_run(folder / "a", {"--run.steps=3", "--plan.compute=bf16"}));
    CHECK(good(generate(folder / "a")).out.size() == 10 + 40 + 1);
}

#endif
