#ifdef PLAIT_COMMAND

#include "command.hpp"

namespace {

/// A run that draws two texts after steps 4, 8 and 10.
Arguments sampled_run(std::filesystem::path const& out, Arguments const& more = {}) {
    return small_run(out, Arguments{"--optimizer.rate=1e-2", "--data.batch=8", "--run.sample_every=4",
                                    "--run.sample_tokens=40",
                                    "--run.sample_prompts=[\"The model \", \"a \\\"b\\\"\\n\"]"} +
                              more);
}

std::string samples(std::filesystem::path const& run) { return get_text(run / "samples.jsonl"); }

/// The texts of one step as a JSON line has them.
std::string text_of(std::string const& row) {
    auto const at = row.find("\"text\": \"") + 9;
    return row.substr(at, row.size() - at - 2);
}

}  // namespace

TEST_CASE(
    "a run draws samples every n steps and at its end, and its weights are those of one that draws none") {
    ScratchFolder folder;
    good(sampled_run(folder / "a"));
    auto const rows = lines_of(samples(folder / "a"));
    REQUIRE(rows.size() == 6);
    for (std::size_t i = 0; i < 6; ++i) {
        auto const step = std::vector<std::string>{"4", "8", "10"}[i / 2];
        auto const* prompt = i % 2 ? R"(a \"b\"\u000a)" : "The model ";
        CHECK(rows[i].starts_with(fmt::format(R"({{"step": {}, "prompt": "{}", "text": ")", step, prompt)));
        CHECK(text_of(rows[i]).size() >= 40);
    }
    CHECK(text_of(rows[0]) != text_of(rows[4]));

    good(sampled_run(folder / "off", {"--run.sample_every=0"}));
    CHECK(!std::filesystem::exists(folder / "off" / "samples.jsonl"));
    CHECK(column(folder / "off", "params_hash") == column(folder / "a", "params_hash"));
    CHECK(column(folder / "off", "loss") == column(folder / "a", "loss"));

    // What the last ones say is what plait generate makes of the weights.
    good(sampled_run(folder / "b", {"--run.steps=60", "--run.sample_every=60"}));
    auto made = lines_of(good({"generate", (folder / "b").string(), "--quiet", "--json", "--tokens", "40",
                               "--prompt", "The model ", "--prompt", "a \"b\"\n"})
                             .out);
    auto const drawn = lines_of(samples(folder / "b"));
    REQUIRE((made.size() == 2 && drawn.size() == 2));
    for (std::size_t i = 0; i < 2; ++i) {
        auto text = text_of(drawn[i]);
        for (std::size_t at; (at = text.find("\\u000a")) != text.npos;) text.replace(at, 6, "\\n");
        CHECK_THAT(made[i], ContainsSubstring("\"text\":\"" + text + "\""));
    }
    good(sampled_run(folder / "hot", {"--run.sample_temperature=2", "--run.seed=1"}));
    CHECK(samples(folder / "hot") != samples(folder / "a"));

    auto page = folder / "page.html";
    good({"report", (folder / "a").string(), "--out", page.string()});
    CHECK_THAT(get_text(page), ContainsSubstring("<h2>Samples over time</h2>"));
    CHECK_THAT(get_text(page), ContainsSubstring("<summary>2 earlier</summary>"));
}

TEST_CASE("every layout draws the samples of one rank, where it has its weights") {
    ScratchFolder folder;
    Arguments const layout{"--bits", "layout", "--plan.micro_batches=4", "--data.batch=16",
                           "--plan.lines=[\"megatron tensor\", \"sequence tensor\"]"};
    good(sampled_run(folder / "one", layout));
    auto const wanted = samples(folder / "one");
    auto const hashes = column(folder / "one", "params_hash");
    for (auto const& [name, more] : std::vector<std::pair<std::string, Arguments>>{
             {"zero3", {"--cluster", "threads:4", "--mesh", "data=4", "--plan.zero=3"}},
             {"tensor", {"--cluster", "threads:2", "--mesh", "tensor=2"}},
             {"both", {"--cluster", "threads:4", "--mesh", "data=2,tensor=2", "--plan.zero=3"}},
             {"replicas", {"--cluster", "threads:4", "--mesh", "replica=2,data=2", "--plan.zero=1"}}}) {
        CAPTURE(name);
        good(sampled_run(folder / name, layout + more));
        CHECK(column(folder / name, "params_hash") == hashes);
        CHECK(samples(folder / name) == wanted);
    }
    auto f =
        start_mpi(2, {sampled_run(folder / "mpi", layout + Arguments{"--mesh", "data=2", "--plan.zero=3"})})
            ->wait();
    CHECK(f.code == 0);
    CHECK(samples(folder / "mpi") == wanted);
}

TEST_CASE("samples after the checkpoint are cut on resume, and drawn again") {
    ScratchFolder folder;
    auto const run = folder / "a";
    good(sampled_run(run, {"--checkpoint.every=4"}));
    auto const whole = samples(run);
    std::filesystem::remove_all(run / "checkpoints" / "step-00000010");
    put_text(run / "samples.jsonl", whole + "{\"step\": 10, \"pro");
    good(sampled_run(run, {"--checkpoint.every=4", "--resume"}));
    CHECK(samples(run) == whole);

    // One that draws no more still cuts what no longer holds.
    std::filesystem::remove_all(run / "checkpoints" / "step-00000010");
    good(sampled_run(run, {"--checkpoint.every=4", "--resume", "--run.sample_every=0"}));
    CHECK(lines_of(samples(run)).size() == 4);
}

TEST_CASE("what draws samples is a row of the memory table, on top of the same arena") {
    ScratchFolder folder;
    auto const drawing = good(sampled_run(folder / "a", {"--dry-run"})).out;
    auto const none = good(sampled_run(folder / "a", {"--dry-run", "--run.sample_every=0"})).out;
    CHECK_THAT(none, ContainsSubstring("none are drawn"));
    CHECK_THAT(drawing, ContainsSubstring("of what draws them, on rank 0"));
    auto row = [](std::string const& text, std::string const& name) {
        auto at = text.find("\n  " + name + " ");
        REQUIRE(at != text.npos);
        auto number = text.substr(at + name.size() + 3, 30);
        number.resize(number.find(" B"));
        std::erase_if(number, [](char c) { return c == ' ' || c == ','; });
        return std::stoll(number);
    };
    CHECK(row(drawing, "arena") == row(none, "arena"));
    CHECK(row(none, "samples") == 0);
    // At least the weights once more, and the cache of two sequences.
    CHECK(row(drawing, "samples") > row(drawing, "weights") + 2 * 2 * 2 * 32 * 32 * 4);
}

TEST_CASE("samples that cannot be drawn are refused before the first step") {
    ScratchFolder folder;
    refused(2, "run.sample_every = -1", sampled_run(folder / "a", {"--run.sample_every=-1"}));
    refused(2, "run.sample_tokens = 0", sampled_run(folder / "a", {"--run.sample_tokens=0"}));
    refused(2, "run.sample_temperature = -1", sampled_run(folder / "a", {"--run.sample_temperature=-1"}));
    // Tokens of nanoGPT's, which came without a tokenizer.
    put_text(folder / "train.bin", std::string(4000, '\0'));
    Arguments const tokens{"--data.path=" + (folder / "train.bin").string(), "--data.validation=0.2"};
    refused(2, "came without a tokenizer, which samples need: set data.tokenizer",
            sampled_run(folder / "a", tokens));
    CHECK(!std::filesystem::exists(folder / "a"));
    good(sampled_run(folder / "a", tokens + Arguments{"--run.sample_every=0"}));
}

#endif
