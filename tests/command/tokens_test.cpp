#if defined(PLAIT_COMMAND) && defined(PLAIT_HAS_PCRE2)

#include "command.hpp"

#include <numeric>

namespace {

namespace fs = std::filesystem;

void prepare(fs::path const& out, Arguments const& more = {}) {
    good(Arguments{"prepare", "include/plait", "src", "--out", out.string()} + more);
}

/// A run of a second on tokens.
Arguments run_on(fs::path const& tokens, fs::path const& out, Arguments const& more = {}) {
    return Arguments{"train",
                     "--hash",
                     "--data.path=" + tokens.string(),
                     "--run.out=" + out.string(),
                     "--data.batch=4",
                     "--data.seq=32",
                     "--model.dim=32",
                     "--model.layers=2",
                     "--model.heads=2",
                     "--run.steps=10"} +
           more;
}

std::string hash_of(fs::path const& run) { return column(run, "params_hash").back(); }

}  // namespace

TEST_CASE("a run on a prepared folder trains, validates in bits per byte and generates text") {
    ScratchFolder folder;
    prepare(folder / "p", {"--vocab", "500", "--shard-tokens", "30000"});
    Arguments const vocab{"--model.vocab=500"};
    auto f = good(
        run_on(folder / "p", folder / "a", vocab + Arguments{"--run.steps=60", "--optimizer.rate=1e-2"}));
    CHECK_THAT(f.out, ContainsSubstring("bytes per token"));
    CHECK_THAT(f.out, ContainsSubstring("by byte bigrams"));
    CHECK(get_text(folder / "a/tokenizer.json") == get_text(folder / "p/tokenizer.json"));
    auto number = [&](std::string const& key, std::size_t row) {
        return std::stod(column(folder / "a", key).at(row));
    };
    auto const manifest = get_text(folder / "p/manifest.json");
    auto const part = manifest.substr(manifest.find("\"validation\": {"));
    auto const per_byte = std::stod(value_in(part, "tokens")) / std::stod(value_in(part, "text_bytes"));
    CHECK(number("validation_bits_per_byte", 0) ==
          Approx(number("validation_loss", 0) / std::log(2.0) * per_byte).epsilon(1e-6));
    CHECK(number("validation_bits_per_byte", 0) == Approx(9 * per_byte).epsilon(0.05));
    CHECK(number("validation_bits_per_byte", 1) < 0.9 * number("validation_bits_per_byte", 0));

    auto text = good({"generate", (folder / "a").string(), "--quiet", "--prompt", "namespace plait",
                      "--tokens", "20"})
                    .out;
    CHECK(text.starts_with("namespace plait"));
    CHECK(text.size() > 15 + 20);  // tokens longer than a byte
    CHECK(good({"generate", (folder / "a").string(), "--quiet", "--tokens", "5"}).out.size() > 5);

    // Shards of another size, and llm.c's form, hold the same tokens.
    prepare(folder / "q", {"--vocab", "500", "--format", "llm.c"});
    good(run_on(folder / "q", folder / "b", vocab));
    good(run_on(folder / "p", folder / "c", vocab));
    CHECK(hash_of(folder / "b") == hash_of(folder / "c"));
    CHECK(column(folder / "b", "validation_loss") == column(folder / "c", "validation_loss"));
    // Control: other tokens give other weights.
    prepare(folder / "r", {"--vocab", "499"});
    good(run_on(folder / "r", folder / "d", vocab));
    CHECK(hash_of(folder / "d") != hash_of(folder / "c"));
}

TEST_CASE("ranks share the tokens, and a resumed run sees what one that never stopped sees") {
    ScratchFolder folder;
    prepare(folder / "p", {"--vocab", "400", "--shard-tokens", "9000"});
    Arguments const more{"--model.vocab=400", "--data.batch=8", "--plan.micro_batches=2",
                         "--plan.bits=layout"};
    good(run_on(folder / "p", folder / "a", more));
    good(run_on(folder / "p", folder / "b", more + Arguments{"--cluster", "threads:2"}));
    CHECK(column(folder / "a", "params_hash") == column(folder / "b", "params_hash"));
    good(run_on(folder / "p", folder / "c", more + Arguments{"--run.steps=10", "--checkpoint.every=4"}));
    fs::remove_all(folder / "c/checkpoints/step-00000010");
    good(run_on(folder / "p", folder / "c", more + Arguments{"--resume"}));
    CHECK(hash_of(folder / "c") == hash_of(folder / "a"));
}

TEST_CASE("files of tokens train with and without their tokenizer") {
    ScratchFolder folder;
    prepare(folder / "p", {"--vocab", "400", "--format", "llm.c"});
    auto const bin = folder / "p/train-00000.bin";
    auto f = good(run_on(bin, folder / "a", {"--model.vocab=400"}));
    CHECK_THAT(f.out, ContainsSubstring("llm.c, uint16"));
    CHECK(column(folder / "a", "validation_loss").size() == 2);
    CHECK(column(folder / "a", "validation_bits_per_byte").empty());
    refused(2, "data.tokenizer", {"generate", (folder / "a").string()});

    auto const tokenizer = "--data.tokenizer=" + (folder / "p/tokenizer.json").string();
    good(run_on(bin, folder / "b", {"--model.vocab=400", tokenizer}));
    CHECK(column(folder / "b", "validation_bits_per_byte").size() == 2);
    CHECK(hash_of(folder / "b") == hash_of(folder / "a"));
    good({"generate", (folder / "b").string(), "--quiet", "--tokens", "3"});
    good(run_on(bin, folder / "c",
                {"--model.vocab=400", tokenizer,
                 "--data.validation=" + (folder / "p/validation-00000.bin").string()}));
    good(run_on(folder / "p", folder / "d", {"--model.vocab=400"}));
    CHECK(column(folder / "c", "validation_bits_per_byte") ==
          column(folder / "d", "validation_bits_per_byte"));

    // nanoGPT's form is the same without the header.
    auto const raw = get_text(bin).substr(1024);
    put_text(folder / "raw.bin", raw);
    f = good(run_on(folder / "raw.bin", folder / "e", {"--model.vocab=400"}));
    CHECK_THAT(f.out, ContainsSubstring("nanoGPT, uint16"));
    CHECK_THAT(f.out, ContainsSubstring("as it has no header"));
    CHECK(hash_of(folder / "e") == hash_of(folder / "a"));
    refused(2, "which is not below model.vocab = 300",
            run_on(folder / "raw.bin", folder / "x", {"--model.vocab=300"}));
}

TEST_CASE("tokens that do not fit a run are refused before it begins") {
    ScratchFolder folder;
    prepare(folder / "p", {"--vocab", "400"});
    prepare(folder / "q", {"--vocab", "410"});
    auto const out = folder / "x";
    Arguments const vocab{"--model.vocab=400"};
    refused(2, "tokenizer.json has 400 tokens: set model.vocab to at least 400", run_on(folder / "p", out));
    refused(2, "made with the tokenizer",
            run_on(folder / "p", out,
                   {"--model.vocab=500", "--data.tokenizer=" + (folder / "q/tokenizer.json").string()}));
    refused(2, "made with the tokenizer",
            run_on(folder / "p", out, {"--model.vocab=500", "--data.validation=" + (folder / "q").string()}));
    refused(2, "this must be tokens too",
            run_on(folder / "p", out, vocab + Arguments{"--data.validation=docs"}));
    refused(2, "text and tokens", run_on("docs", out, {"--data.path=[\"docs\", \"a.bin\"]"}));
    refused(2, "plait prepare --tokenizer", run_on("docs", out, {"--data.tokenizer=t.json"}));
    CHECK_THAT(
        good(run_on(folder / "p", folder / "novalidation", vocab + Arguments{"--data.validation=0"})).out,
        ContainsSubstring("no validation"));

    prepare(folder / "none", {"--vocab", "400", "--validation", "0"});
    CHECK(column(folder / "novalidation", "validation_loss").empty());
    good(run_on(folder / "none", folder / "part", vocab));
    CHECK(column(folder / "part", "validation_bits_per_byte").size() == 2);

    auto const shard = folder / "p/train-00000.safetensors";
    auto const whole = get_text(shard);
    put_text(shard, whole.substr(0, whole.size() - 10));
    refused(2, "train-00000.safetensors is truncated", run_on(folder / "p", out, vocab));
    auto bad = whole;
    bad[bad.size() / 2] ^= 4;
    put_text(shard, bad);
    refused(2, "train-00000.safetensors: it was changed", run_on(folder / "p", out, vocab));
    refused(2, "train-00000.safetensors: it was changed", run_on(shard, out, vocab));
    put_text(shard, whole);
    auto const tokenizer = get_text(folder / "p/tokenizer.json");
    put_text(folder / "p/tokenizer.json", get_text(folder / "q/tokenizer.json"));
    refused(2, "made with the tokenizer", run_on(folder / "p", out, {"--model.vocab=500"}));
    put_text(folder / "p/tokenizer.json", tokenizer);
    fs::rename(folder / "p/manifest.json", folder / "p/prepare-state.json");
    refused(2, "not finished", run_on(folder / "p", out, vocab));
    fs::rename(folder / "p/prepare-state.json", folder / "p/manifest.json");
    CHECK_FALSE(fs::exists(out / "metrics.jsonl"));

    good(run_on(folder / "p", folder / "a", {"--model.vocab=500"}));
    refused(2, "was trained with another tokenizer",
            run_on(folder / "q", folder / "a", {"--model.vocab=500", "--resume", "--run.steps=20"}));
    refused(2, "was trained with another tokenizer",
            run_on("docs", folder / "a", {"--model.vocab=500", "--resume", "--run.steps=20"}));
}

#endif
