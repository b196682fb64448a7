#ifdef PLAIT_COMMAND

#include "command.hpp"

namespace {

Arguments generate(std::filesystem::path const& run, Arguments const& more = {}, int tokens = 40) {
    return Arguments{"generate", run.string(),          "--quiet", "--prompt", "The model ",
                     "--tokens", std::to_string(tokens)} +
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
    CHECK(good({"generate", (folder / "a").string(), "--tokens", "5", "--quiet"}).out.size() == 6);
    // Longer than the window of 32.
    CHECK(good(generate(folder / "a", {}, 100)).out.substr(0, 50) == text.substr(0, 50));

    auto before = good(generate(folder / "a", {"--checkpoint", "step-00000020"})).out;
    CHECK(before != text);
    CHECK(good(generate(folder / "a", {"--checkpoint", "20"})).out == before);
    CHECK(good(generate(folder / "a",
                        {"--checkpoint", (folder / "a" / "checkpoints" / "step-00000020").string()}))
              .out == before);
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

TEST_CASE("neither workers nor the batch change what is generated, and cuts do") {
    ScratchFolder folder;
    for (std::string family : {"llama", "gpt2"}) {
        CAPTURE(family);
        auto run = folder / family;
        good(small_run(run, {"--run.steps=30", "--optimizer.rate=1e-2", "--model.family=" + family}));
        // The third is longer than the window of 32, and read in chunks.
        Arguments const prompts{"--prompt", "A", "--prompt", std::string(50, 'x'), "--prompt", "end"};
        auto text = good(generate(run, prompts, 60)).out;
        CHECK_THAT(text, ContainsSubstring("=== 1 of 4 ===\nThe model "));
        CHECK_THAT(text, ContainsSubstring("\n\n=== 4 of 4 ===\nend"));
        for (auto const& same : {Arguments{"--threads", "1"}, Arguments{"--threads", "2"},
                                 Arguments{"--batch", "1"}, Arguments{"--batch", "3"}})
            CHECK(good(generate(run, prompts + same, 60)).out == text);
        // The first one alone; the others have random numbers of their own.
        auto first = good(generate(run, {}, 60)).out;
        CHECK_THAT(text, ContainsSubstring("=== 1 of 4 ===\n" + first));

        auto greedy = good(generate(run, {"--temperature", "0"}, 60)).out;
        CHECK(greedy != first);
        CHECK(good(generate(run, {"--top-k", "1"}, 60)).out == greedy);
        CHECK(good(generate(run, {"--top-p", "1e-9"}, 60)).out == greedy);
        // A context of its own ends the likeness where it is full, not before.
        auto narrow = good(generate(run, {"--temperature", "0", "--context", "20"}, 60)).out;
        CHECK(narrow.substr(0, 21) == greedy.substr(0, 21));
        CHECK(narrow.size() == greedy.size());
    }
    refused(2, "this gpt2 has learned 32 positions", generate(folder / "gpt2", {"--context", "33"}));
    CHECK(good(generate(folder / "llama", {"--context", "100"}, 80)).out.size() == 91);
}

TEST_CASE("texts come as JSON, end at a string, and begin from files") {
    ScratchFolder folder;
    auto run = folder / "a";
    good(small_run(run, {"--run.steps=30", "--optimizer.rate=1e-2"}));
    auto text = good(generate(run, {"--temperature", "0"})).out.substr(10);
    text.pop_back();
    auto rows = lines_of(good(generate(run, {"--temperature", "0", "--json", "--prompt", "b\"c\n"})).out);
    REQUIRE(rows.size() == 2);
    CHECK_THAT(rows[0], ContainsSubstring(R"({"prompt":"The model ","text":")" + text + "\""));
    CHECK_THAT(rows[0], ContainsSubstring(R"("tokens":40,"tokens_per_second":)"));
    CHECK_THAT(rows[1], ContainsSubstring(R"({"prompt":"b\"c\n",)"));

    auto stop = text.substr(20, 3);
    auto until = good(generate(run, {"--temperature", "0", "--stop", stop})).out;
    CHECK(until == "The model " + text.substr(0, text.find(stop)) + "\n");

    put_text(folder / "prompt", "The model ");
    CHECK(good({"generate", run.string(), "--quiet", "--prompt-file", (folder / "prompt").string(),
                "--tokens", "40", "--temperature", "0"})
              .out == "The model " + text + "\n");
    refused(2, "--prompt-file", {"generate", run.string(), "--prompt-file", (folder / "none").string()});
}

TEST_CASE("the speed is told on standard error, and so is what the model does not see") {
    ScratchFolder folder;
    good(small_run(folder / "a", {"--run.steps=1"}));
    auto f = plait({"generate", (folder / "a").string(), "--prompt", std::string(40, 'x'), "--tokens", "30"});
    CHECK(f.code == 0);
    CHECK(f.out.size() == 71);
    auto lines = lines_of(f.err);
    REQUIRE(lines.size() == 2);
    CHECK(lines[0] == "plait generate: of the 40 tokens of prompt 1 the model sees the last 32");
    CHECK_THAT(lines[1], ContainsSubstring("plait generate: 30 tokens in "));
    CHECK_THAT(lines[1], ContainsSubstring(" ms, then "));
    CHECK_THAT(lines[1], ContainsSubstring(" tok/s, the window moved 2 times"));
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
