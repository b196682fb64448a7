#if defined(PLAIT_HAS_JSON)

#include "plait/data/token_file.hpp"

#include "catch.hpp"
#include "plait/data/prepared.hpp"
#include "scratch.hpp"

#include <array>
#include <cstring>
#include <random>

using namespace plait;

namespace {

std::vector<std::uint32_t> random_tokens(std::int64_t count, std::int64_t vocabulary) {
    std::mt19937 random(1);
    std::vector<std::uint32_t> tokens;
    for (std::int64_t i = 0; i < count; ++i)
        tokens.push_back(static_cast<std::uint32_t>(random() % static_cast<unsigned>(vocabulary)));
    return tokens;
}

std::vector<std::uint32_t> tokens_of(TokenFile const& file) {
    Tokens view;
    file.add_to(view);
    std::vector<std::int32_t> copy(static_cast<std::size_t>(view.size()));
    view.copy(0, view.size(), copy.data());
    return {copy.begin(), copy.end()};
}

std::string shard_of(std::vector<std::uint32_t> const& tokens, std::int64_t vocabulary) {
    std::vector<std::int64_t> const documents{0, 3, static_cast<std::int64_t>(tokens.size())};
    return plait_shard(tokens, documents, {vocabulary, "0123456789abcdef", 77});
}

std::string words_of(std::vector<std::int32_t> const& words, std::size_t bytes) {
    std::string s(bytes, '\0');
    std::memcpy(s.data(), words.data(), words.size() * 4);
    return s;
}

}  // namespace

TEST_CASE("a shard of Plait is read as it was written") {
    ScratchFolder folder;
    for (std::int64_t vocabulary : {300, 65536, 65537, 200000}) {
        auto const tokens = random_tokens(1001, vocabulary);
        put_text(folder / "a.safetensors", shard_of(tokens, vocabulary));
        TokenFile file(folder / "a.safetensors");
        CHECK(file.format() == TokenFormat::plait);
        CHECK(file.width() == (vocabulary <= 65536 ? 2 : 4));
        CHECK(tokens_of(file) == tokens);
        REQUIRE(file.documents().size() == 3);
        CHECK(file.documents()[1] == 3);
        CHECK(file.text()->vocabulary == vocabulary);
        CHECK(file.text()->tokenizer == "0123456789abcdef");
        CHECK(file.text()->bytes == 77);
        CHECK_NOTHROW(file.verify(vocabulary, "model.vocab"));
    }
    CHECK_THAT(message_of<Error>([] { shard_of({1, 2, 3, 300}, 300); }), ContainsSubstring("300"));
}

TEST_CASE("files of llm.c go round, and nanoGPT's are known by having no header") {
    ScratchFolder folder;
    for (std::int64_t vocabulary : {50257, 128256}) {
        auto const tokens = random_tokens(777, vocabulary);
        auto const text = llm_c_shard(tokens, vocabulary);
        auto const width = vocabulary <= 65536 ? 2 : 4;
        CHECK(std::ssize(text) == 1024 + 777 * width);
        std::array<std::int32_t, 3> head;
        std::memcpy(head.data(), text.data(), sizeof head);
        CHECK(head == (width == 2 ? std::array{20240520, 1, 777} : std::array{20240801, 7, 777}));
        put_text(folder / "a.bin", text);
        TokenFile file(folder / "a.bin");
        CHECK(file.format() == TokenFormat::llm_c);
        CHECK(file.width() == width);
        CHECK(tokens_of(file) == tokens);
        CHECK(llm_c_shard(tokens_of(file), vocabulary) == text);
        CHECK_FALSE(file.text().has_value());
    }
    std::vector<std::uint16_t> const raw{50256, 1, 2, 65535};
    put_text(folder / "raw.bin", {reinterpret_cast<char const*>(raw.data()), raw.size() * 2});
    TokenFile file(folder / "raw.bin");
    CHECK(file.format() == TokenFormat::nano_gpt);
    CHECK(tokens_of(file) == std::vector<std::uint32_t>{50256, 1, 2, 65535});
    CHECK(file.summary() == "nanoGPT, uint16, 4 tokens");
    CHECK_THAT(message_of<UsageError>([&] { file.verify(65535, "model.vocab"); }),
               ContainsSubstring("raw.bin: token 3 is 65535, which is not below model.vocab = 65535"));
    CHECK_NOTHROW(file.verify(65536, "model.vocab"));
}

TEST_CASE("a damaged token file is refused in one line that names it") {
    ScratchFolder folder;
    auto refused = [&](std::string const& name, std::string const& bytes, std::string const& why) {
        put_text(folder / name, bytes);
        auto message =
            message_of<UsageError>([&] { TokenFile(folder / name).verify(300, "the vocabulary"); });
        CAPTURE(why, message);
        CHECK_THAT(message, ContainsSubstring(why));
        CHECK_THAT(message, ContainsSubstring(name));
        CHECK(message.find('\n') == message.npos);
    };
    auto const tokens = random_tokens(500, 300);
    auto const llm = llm_c_shard(tokens, 300);
    refused("empty.bin", "", "empty");
    refused("cut.bin", llm.substr(0, llm.size() - 2), "truncated");
    refused("cut.bin", llm.substr(0, 1000), "truncated");
    refused("long.bin", llm + "xx", "edited");
    refused("version.bin", words_of({20240520, 2, 0}, 1024), "version 2");
    refused("count.bin", words_of({20240520, 1, -1}, 1024), "truncated");
    refused("count.bin", words_of({20240801, 7, 2147483647}, 1024), "truncated");
    refused("odd.bin", "abc", "no whole number of uint16");
    refused("swag.bin", words_of({20240522, 1, 0}, 1024), "cannot read");
    refused("llmq.bin", "BIN.TOK\nabcdefgh", "cannot read");
    refused("vocab.bin", llm_c_shard({{5, 299, 301}}, 400), "token 2 is 301");

    auto const shard = shard_of(tokens, 300);
    refused("s.safetensors", "1234567", "truncated");
    for (std::size_t size : {8ul, 100ul, shard.size() - 1000, shard.size() - 1})
        refused("s.safetensors", shard.substr(0, size), "truncated");
    refused("s.safetensors", shard + "xx", "belong to none");
    refused("s.safetensors", std::string(8, '\xff') + "{}", "no file of tokens");
    auto replaced = [&](std::string_view from, std::string_view to) {
        auto s = shard;
        auto at = s.find(from);
        REQUIRE(at != s.npos);
        REQUIRE(from.size() == to.size());
        return s.replace(at, from.size(), to);
    };
    refused("s.safetensors", replaced("plait tokens 1", "plait tokens 2"), "no file of tokens");
    refused("s.safetensors", replaced("\"U16\"", "\"I16\""), "tokens is not U16");
    refused("s.safetensors", replaced("[500]", "[501]"), "tokens is not U16");
    refused("s.safetensors", replaced("\"bytes\"", "\"bites\""),
            "lacks vocabulary, tokenizer, bytes or hash");
    refused("s.safetensors", replaced("\"77\"", "\"78\""), "changed");
    refused("s.safetensors", replaced("0123456789abcdef", "0123456789abcdee"), "changed");

    // Every bit of the data counts.
    std::mt19937 random(9);
    auto const begin = shard.size() - 500 * 2 - 3 * 8;
    for (int i = 0; i < 100; ++i) {
        auto bad = shard;
        bad[begin + random() % (bad.size() - begin)] ^= static_cast<char>(1 << random() % 8);
        put_text(folder / "s.safetensors", bad);
        CHECK_FALSE(
            message_of<UsageError>([&] { TokenFile(folder / "s.safetensors").verify(300, "v"); }).empty());
    }
    put_text(folder / "s.safetensors", shard);
    CHECK_NOTHROW(TokenFile(folder / "s.safetensors").verify(300, "v"));
    CHECK_FALSE(message_of<UsageError>([&] { TokenFile(folder / "none.bin"); }).empty());
    CHECK_FALSE(message_of<UsageError>([&] { TokenFile{folder.path()}; }).empty());
}

TEST_CASE("a shard with a byte changed is refused, or means the same") {
    ScratchFolder folder;
    auto const tokens = random_tokens(20, 300);
    auto const shard = shard_of(tokens, 300);
    std::mt19937 random(31);
    for (int i = 0; i < 1000; ++i) {
        auto bad = shard;
        auto const at = random() % bad.size();
        bad[at] = static_cast<char>(random());
        if (bad[at] == shard[at]) continue;
        put_text(folder / "s.safetensors", bad);
        try {
            TokenFile file(folder / "s.safetensors");
            file.verify(300, "v");
            // Where a change of the header means nothing, the tokens are what they were.
            CHECK(tokens_of(file) == tokens);
            CHECK(at < shard.size() - 40 - 24);
        } catch (UsageError const&) {}
    }
}

TEST_CASE("tokens are copied across runs of any width") {
    std::vector<std::uint8_t> bytes{1, 2, 3};
    std::vector<std::uint16_t> shorts{1000, 1001};
    std::vector<std::uint32_t> longs{100000, 100001, 100002};
    Tokens tokens(bytes);
    tokens.add(std::span<std::uint16_t const>(shorts));
    tokens.add(std::span<std::uint32_t const>());
    tokens.add(std::span<std::uint32_t const>(longs));
    std::vector<std::int32_t> const all{1, 2, 3, 1000, 1001, 100000, 100001, 100002};
    REQUIRE(tokens.size() == 8);
    for (std::int64_t begin = 0; begin <= 8; ++begin)
        for (std::int64_t count = 0; begin + count <= 8; ++count) {
            std::vector<std::int32_t> got(static_cast<std::size_t>(count));
            tokens.copy(begin, count, got.data());
            REQUIRE(std::equal(got.begin(), got.end(), all.begin() + begin));
        }
    CHECK_THROWS_AS(tokens.copy(7, 2, nullptr), Error);
    CHECK_THROWS_AS(tokens.copy(-1, 1, nullptr), Error);
}

TEST_CASE("a manifest is read as it was written, and its shards are checked") {
    ScratchFolder folder;
    Prepared p;
    p.tokenizer = "0123456789abcdef";
    p.vocabulary = 300;
    p.options = {{"validation", "0.05"}};
    p.files = {{"used", 2}, {"binary", 1}};
    auto const shard = shard_of(random_tokens(500, 300), 300);
    put_text(folder / "train-00000.safetensors", shard);
    p.train.shards.push_back({"train-00000.safetensors", 2, 500, 77, std::ssize(shard),
                              fmt::format("{:016x}", hash_bytes(shard))});
    CHECK_FALSE(Prepared::is_at(folder.path()));
    put_text(folder / "manifest.json", p.json());
    CHECK(Prepared::is_at(folder.path()));
    auto again = Prepared::load(folder.path());
    CHECK(again.json() == p.json());
    CHECK(again.train.tokens() == 500);

    auto refused = [&](std::string const& why) {
        CHECK_THAT(message_of<UsageError>([&] {
                       auto m = Prepared::load(folder.path());
                       TokenFiles files;
                       files.open(folder.path(), m.train);
                   }),
                   ContainsSubstring(why));
    };
    TokenFiles whole;
    CHECK_NOTHROW(whole.open(folder.path(), again.train));
    CHECK(whole.tokens.size() == 500);
    auto bad = shard;
    bad.back() ^= 1;
    put_text(folder / "train-00000.safetensors", bad);
    refused("train-00000.safetensors: it was changed");
    put_text(folder / "train-00000.safetensors", shard.substr(0, shard.size() - 2));
    refused("train-00000.safetensors is truncated");
    std::filesystem::remove(folder / "train-00000.safetensors");
    refused("train-00000.safetensors: cannot be read");
    auto escaping = p;
    escaping.train.shards[0].file = "../x";
    put_text(folder / "manifest.json", escaping.json());
    refused("damaged");
    put_text(folder / "manifest.json", p.json().substr(0, 100));
    refused("damaged");
    std::filesystem::remove(folder / "manifest.json");
    refused("not finished");
}

#endif
