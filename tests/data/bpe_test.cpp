#include "plait/data/bpe.hpp"

#include "catch.hpp"
#include "scratch.hpp"

#include <algorithm>
#include <map>
#include <random>

using namespace plait;

namespace {

using Words = std::vector<std::pair<std::string, std::int64_t>>;

std::vector<CountedPiece> pieces_of(Words const& words) {
    std::vector<CountedPiece> pieces;
    for (auto const& [word, count] : words) pieces.push_back({word, count});
    return pieces;
}

/// Words over few letters, so that pairs overlap, repeat and tie.
Words random_words(std::mt19937& random, int words, int letters, int longest) {
    std::map<std::string, std::int64_t> all;
    for (int i = 0; i < words; ++i) {
        std::string w(1 + random() % static_cast<unsigned>(longest), ' ');
        for (auto& c : w) c = static_cast<char>('a' + random() % static_cast<unsigned>(letters));
        all[w] += 1 + random() % 5;
    }
    return {all.begin(), all.end()};
}

using Pair = std::pair<std::uint32_t, std::uint32_t>;

std::vector<std::uint32_t> merged(std::vector<std::uint32_t> const& word, Pair pair, std::uint32_t result) {
    std::vector<std::uint32_t> out;
    for (std::size_t i = 0; i < word.size(); ++i) {
        bool const here = i + 1 < word.size() && word[i] == pair.first && word[i + 1] == pair.second;
        out.push_back(here ? result : word[i]);
        i += here;
    }
    return out;
}

/// The definition: count all pairs, merge the best one everywhere, count again. `lowest` is the rule for
/// ties.
BytePairs learned_slowly(Words const& words, std::int64_t vocabulary, bool lowest = true) {
    BytePairs learned;
    for (int b = 0; b < 256; ++b) learned.tokens.push_back(std::string(1, static_cast<char>(b)));
    std::vector<std::vector<std::uint32_t>> symbols;
    for (auto const& [w, count] : words) {
        symbols.emplace_back();
        for (char c : w) symbols.back().push_back(static_cast<unsigned char>(c));
    }
    while (std::cmp_less(learned.tokens.size(), vocabulary)) {
        std::map<Pair, std::int64_t> counts;
        for (std::size_t i = 0; i < symbols.size(); ++i)
            for (std::size_t k = 1; k < symbols[i].size(); ++k)
                counts[{symbols[i][k - 1], symbols[i][k]}] += words[i].second;
        Pair best;
        std::int64_t most = 1;
        for (auto const& [pair, count] : counts)
            if (count > most || (!lowest && count == most && count > 1)) best = pair, most = count;
        if (most == 1) break;
        auto text = learned.tokens[best.first] + learned.tokens[best.second];
        auto found = std::find(learned.tokens.begin(), learned.tokens.end(), text);
        auto const id = static_cast<std::uint32_t>(found - learned.tokens.begin());
        if (found == learned.tokens.end()) learned.tokens.push_back(text);
        learned.merges.push_back({best.first, best.second, id});
        for (auto& s : symbols) s = merged(s, best, id);
    }
    return learned;
}

/// The definition: the lowest rank that applies, everywhere, until none does.
std::vector<std::uint32_t> encoded_slowly(BytePairs const& pairs, std::string const& word) {
    std::vector<std::uint32_t> symbols;
    for (char c : word) symbols.push_back(static_cast<unsigned char>(c));
    for (bool changed = true; changed;) {
        changed = false;
        for (auto const& m : pairs.merges) {
            auto next = merged(symbols, {m.left, m.right}, m.result);
            if (next == symbols) continue;
            symbols = next, changed = true;
            break;
        }
    }
    return symbols;
}

bool same(BytePairs const& a, BytePairs const& b) { return a.tokens == b.tokens && a.merges == b.merges; }

}  // namespace

TEST_CASE("merges are learned as the definition says") {
    std::mt19937 random(7);
    int ties = 0;
    for (int round = 0; round < 60; ++round) {
        auto words = random_words(random, 3 + round, 2 + round % 4, 3 + round % 12);
        auto const want = learned_slowly(words, 300);
        INFO("round " << round);
        REQUIRE(same(learn_merges(pieces_of(words), 300), want));
        // The order of the pieces says nothing.
        std::shuffle(words.begin(), words.end(), random);
        REQUIRE(same(learn_merges(pieces_of(words), 300), want));
        // Control: another rule for ties is noticed.
        ties += !same(learned_slowly(words, 300, false), want);
    }
    CHECK(ties > 30);
}

TEST_CASE("a text of one letter merges from the left") {
    auto pairs = learn_merges(pieces_of({{"aaaaaaa", 3}}), 300);
    REQUIRE(pairs.merges.size() >= 2);
    CHECK(pairs.tokens[256] == "aa");
    CHECK(pairs.tokens[257] == "aaaa");
    // aa aa aa a -> aaaa aa a -> aaaa aaa or aaaaaa a: both twice or more, and ids 256 97 come first.
    CHECK(same(pairs, learned_slowly({{"aaaaaaa", 3}}, 300)));
}

TEST_CASE("learning ends when no pair comes twice, and refuses what cannot be") {
    CHECK(learn_merges({}, 1000).tokens.size() == 256);
    CHECK(learn_merges(pieces_of({{"abcd", 1}}), 1000).merges.empty());
    CHECK(learn_merges(pieces_of({{"abcd", 2}}), 1000).merges.size() == 3);
    CHECK(learn_merges(pieces_of({{"abcd", 2}}), 257).merges.size() == 1);
    CHECK_THAT(message_of<UsageError>([] { learn_merges({}, 255); }), ContainsSubstring("255"));
}

TEST_CASE("pieces are merged as the definition says") {
    std::mt19937 random(11);
    int noticed = 0;
    for (int round = 0; round < 30; ++round) {
        auto const words = random_words(random, 60, 2 + round % 4, 12);
        auto pairs = learn_merges(pieces_of(words), 256 + 5 + round);
        PieceMerger merger(pairs);
        auto swapped = pairs;
        if (swapped.merges.size() > 1) std::reverse(swapped.merges.begin(), swapped.merges.end());
        PieceMerger control(swapped);
        PieceMerger::Scratch scratch;
        for (auto const& [word, count] : random_words(random, 40, 2 + round % 4, 40)) {
            std::vector<std::uint32_t> got, other;
            merger.merge(word, scratch, got);
            control.merge(word, scratch, other);
            INFO(word);
            REQUIRE(got == encoded_slowly(pairs, word));
            noticed += other != got;
        }
    }
    CHECK(noticed > 100);
}

TEST_CASE("a long piece takes no quadratic time") {
    auto pairs = learn_merges(pieces_of({{"abababab", 5}, {"ba", 3}}), 270);
    PieceMerger merger(pairs);
    PieceMerger::Scratch scratch;
    std::string text;
    for (int i = 0; i < 2'000'000; ++i) text += "ab";
    std::vector<std::uint32_t> tokens;
    merger.merge(text, scratch, tokens);
    CHECK(tokens.size() <= text.size() / 8);
    std::string back;
    for (auto t : tokens) back += pairs.tokens[t];
    CHECK(back == text);
}

TEST_CASE("pairs and pieces are found again") {
    PairTable table;
    std::map<Pair, std::uint32_t> all;
    std::mt19937 random(3);
    for (std::uint32_t i = 0; i < 20000; ++i) {
        Pair p{random() % 200, random() % 200};
        auto value = all.emplace(p, i).first->second;
        REQUIRE(table.insert(p.first, p.second, i) == value);
    }
    for (std::uint32_t a = 0; a < 210; ++a)
        for (std::uint32_t b = 0; b < 210; ++b) {
            auto it = all.find({a, b});
            REQUIRE(table.find(a, b) == (it == all.end() ? PairTable::none : it->second));
        }
    PieceTable pieces;
    for (int i = 0; i < 5000; ++i) REQUIRE(pieces.insert(std::to_string(i % 2500)).second == (i < 2500));
    CHECK(pieces.size() == 2500);
    CHECK(pieces[pieces.find("1234")] == "1234");
    CHECK(pieces.find("2500") == PairTable::none);
    CHECK(pieces.insert("").second);
    CHECK(pieces[2500].empty());
    CHECK(hash_bytes("a") != hash_bytes(std::string_view("a\0", 2)));
}
