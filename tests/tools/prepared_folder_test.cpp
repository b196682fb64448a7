#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11) && defined(PLAIT_HAS_PCRE2)

#include "../../src/tools/commands.hpp"
#include "catch.hpp"
#include "plait/data/prepared.hpp"
#include "scratch.hpp"

#include <map>
#include <random>

using namespace plait;
using namespace plait::tools;

namespace {

namespace fs = std::filesystem;

PrepareArguments arguments_for(fs::path const& out, std::vector<std::string> paths) {
    PrepareArguments a;
    a.out = out.string();
    a.paths = std::move(paths);
    a.vocab = 600;
    a.shard_tokens = 20000;
    return a;
}

/// Names and contents of all files below a folder.
std::map<std::string, std::string> contents(fs::path const& folder) {
    std::map<std::string, std::string> all;
    for (auto const& e : fs::recursive_directory_iterator(folder))
        if (e.is_regular_file()) all[e.path().lexically_relative(folder).string()] = get_text(e.path());
    return all;
}

void flip_last_byte(fs::path const& file) {
    auto text = get_text(file);
    text.back() ^= 1;
    put_text(file, text);
}

}  // namespace

TEST_CASE("tokens of a prepared folder decode to the text, document by document") {
    ScratchFolder folder;
    std::mt19937 random(2);
    std::map<std::string, int> texts;
    for (int i = 0; i < 40; ++i) {
        std::string text = fmt::format("file {} <|endoftext|>", i);
        for (int k = 0; k < 200; ++k) text += fmt::format(" {}", random() % 50);
        ++texts[text];
        put_text(folder / fmt::format("in/{}.txt", i), text);
    }
    auto a = arguments_for(folder / "out", {(folder / "in").string()});
    a.validation = 0.2;
    a.shard_tokens = 1500;
    CHECK(prepare(a) == 0);
    auto const p = Prepared::load(folder / "out");
    CHECK(p.train.shards.size() > 3);
    CHECK(p.train.documents() + p.validation.documents() == 40);
    CHECK(p.validation.documents() > 0);
    auto const tokenizer = Tokenizer::load(folder / "out/tokenizer.json");
    CHECK(tokenizer.hash() == p.tokenizer);
    for (auto const* list : {&p.train, &p.validation}) {
        TokenFiles files;
        files.open(folder / "out", *list);
        CHECK(text_bytes(files.tokens, tokenizer, 0, files.tokens.size()) == list->text_bytes());
        for (auto const& file : files.files) {
            Tokens tokens;
            file.add_to(tokens);
            for (std::size_t d = 1; d < file.documents().size(); ++d) {
                auto const begin = file.documents()[d - 1], count = file.documents()[d] - begin;
                std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
                tokens.copy(begin, count, ids.data());
                REQUIRE(std::cmp_equal(ids.back(), tokenizer.separator()));
                std::vector<std::uint32_t> const body(ids.begin(), ids.end() - 1);
                --texts[tokenizer.decode(body)];
            }
        }
    }
    for (auto const& [text, left] : texts) CHECK(left == 0);
}

TEST_CASE("what was finished before an interruption is kept, and made again where it is damaged") {
    ScratchFolder folder;
    auto const out = folder / "out";
    auto const own = arguments_for(out, {SOURCE_DIR "/include", SOURCE_DIR "/src"});
    CHECK(prepare(own) == 0);
    auto const want = contents(out);
    // As it stands when a run is killed after its third shard.
    auto p = Prepared::load(out);
    auto const last = p.train.shards.size() - 1;
    for (std::size_t i = 3; i <= last; ++i) fs::remove(out / p.train.shards[i].file);
    p.train.shards.resize(3);
    p.validation.shards.clear();
    fs::remove(out / "validation-00000.safetensors");
    fs::remove(out / "manifest.json");
    auto interrupted = [&] { put_text(out / "prepare-state.json", p.json()); };
    interrupted();
    auto const untouched = fs::last_write_time(out / "train-00002.safetensors");
    CHECK(prepare(own) == 0);
    CHECK(fs::last_write_time(out / "train-00002.safetensors") == untouched);
    CHECK(contents(out) == want);

    fs::remove(out / "manifest.json");
    interrupted();
    flip_last_byte(out / "train-00001.safetensors");
    CHECK(prepare(own) == 0);
    CHECK(contents(out) == want);

    // Finished and damaged is told, not repaired in silence.
    flip_last_byte(out / "train-00001.safetensors");
    CHECK_THAT(message_of<UsageError>([&] { prepare(own); }),
               ContainsSubstring("train-00001.safetensors: it was changed"));
    put_text(out / "tokenizer.json", "{}");
    fs::remove(out / "manifest.json");
    interrupted();
    CHECK_THAT(message_of<UsageError>([&] { prepare(own); }), ContainsSubstring("tokenizer.json"));
}

TEST_CASE("files of llm.c and a tokenizer from elsewhere") {
    ScratchFolder folder;
    CHECK(prepare(arguments_for(folder / "a", {SOURCE_DIR "/docs"})) == 0);
    auto other = arguments_for(folder / "b", {SOURCE_DIR "/docs"});
    other.format = "llm.c";
    other.tokenizer = (folder / "a/tokenizer.json").string();
    CHECK(prepare(other) == 0);
    CHECK(get_text(folder / "b/tokenizer.json") == get_text(folder / "a/tokenizer.json"));
    auto a = Prepared::load(folder / "a"), b = Prepared::load(folder / "b");
    REQUIRE(b.train.shards.size() == a.train.shards.size());
    for (std::size_t i = 0; i < a.train.shards.size(); ++i) {
        auto tokens_of = [&](char const* from, Prepared const& p) {
            TokenFile file(folder / (std::string(from) + "/" + p.train.shards[i].file));
            Tokens view;
            file.add_to(view);
            std::vector<std::int32_t> ids(static_cast<std::size_t>(view.size()));
            view.copy(0, view.size(), ids.data());
            return ids;
        };
        CHECK(b.train.shards[i].file.ends_with(".bin"));
        CHECK(tokens_of("a", a) == tokens_of("b", b));
    }
    CHECK(b.train.text_bytes() == a.train.text_bytes());
}

#endif
