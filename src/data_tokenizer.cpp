#include "plait/data/tokenizer.hpp"

#ifdef PLAIT_HAS_JSON  // as io/ has it: what reads and writes files of others

#include <algorithm>
#include <array>

namespace plait {
namespace {

// What an encoder remembers before it begins anew; it bounds the memory of a thread.
constexpr std::size_t most_seen_bytes = 16 << 20, most_seen_pieces = 1 << 19;
// Longer pieces hardly come twice.
constexpr std::size_t longest_seen_piece = 64;

std::uint32_t separator_of(Tokenizer::Parts const& parts) {
    for (std::string_view name : {end_of_text, std::string_view("<|end_of_text|>"), std::string_view("</s>")})
        for (auto const& s : parts.specials)
            if (s.name == name) return s.id;
    fail("the tokenizer has no special token {} to end documents with", end_of_text);
}

}  // namespace

Tokenizer::Tokenizer(Parts parts)
    : parts_(std::make_unique<Parts>(std::move(parts))),
      splitter_(std::make_unique<Splitter>(parts_->pattern)),
      separator_(separator_of(*parts_)) {
    auto& tokens = parts_->pairs.tokens;
    // Special tokens have ids, but no bytes that text could give.
    for (auto const& s : parts_->specials) {
        if (s.id >= tokens.size()) tokens.resize(std::size_t{s.id} + 1);
        tokens[s.id].clear();
    }
    merger_ = std::make_unique<PieceMerger>(parts_->pairs);
}

std::string_view Tokenizer::bytes_of(std::uint32_t id) const {
    auto const& tokens = parts_->pairs.tokens;
    check(id < tokens.size(), "the token {} is outside the tokenizer's vocabulary of {}", id, tokens.size());
    if (!tokens[id].empty()) return tokens[id];
    for (auto const& s : parts_->specials)
        if (s.id == id) return s.name;
    return {};
}

std::string Tokenizer::decode(std::span<std::uint32_t const> ids) const {
    std::string text;
    for (auto id : ids) text += bytes_of(id);
    return text;
}

std::string Tokenizer::hash() const {
    std::uint64_t h = 0;
    auto add = [&](std::string_view bytes) { h = mix(h ^ hash_bytes(bytes)); };
    add(parts_->pattern);
    for (auto const& t : parts_->pairs.tokens) add(t);
    for (auto const& m : parts_->pairs.merges) {
        std::array<std::uint32_t, 3> const words{m.left, m.right, m.result};
        add({reinterpret_cast<char const*>(words.data()), sizeof words});
    }
    for (auto const& s : parts_->specials) {
        add(s.name);
        h = mix(h ^ s.id);
    }
    return fmt::format("{:016x}", mix(h ^ static_cast<std::uint64_t>(parts_->whole_pieces)));
}

void Encoder::merge(std::string_view piece, std::vector<std::uint32_t>& tokens) {
    if (tokenizer_.whole_pieces()) {
        if (!whole_) {
            whole_.emplace();
            auto const& all = tokenizer_.pairs().tokens;
            for (std::size_t id = 0; id < all.size(); ++id)
                if (!all[id].empty() && whole_->insert(all[id]).second)
                    whole_ids_.push_back(static_cast<std::uint32_t>(id));
        }
        if (auto number = whole_->find(piece); number != PairTable::none) {
            tokens.push_back(whole_ids_[number]);
            return;
        }
    }
    tokenizer_.merger().merge(piece, scratch_, tokens);
}

void Encoder::add(std::string_view piece, std::vector<std::uint32_t>& tokens) {
    if (piece.size() > longest_seen_piece) return merge(piece, tokens);
    if (seen_.size() >= most_seen_pieces || seen_.bytes() >= most_seen_bytes) {
        seen_.clear(), ends_.clear(), cache_.clear();
    }
    auto const [number, fresh] = seen_.insert(piece);
    if (fresh) {
        merge(piece, cache_);
        ends_.push_back(static_cast<std::uint32_t>(cache_.size()));
    }
    auto const begin = number == 0 ? 0 : ends_[number - 1];
    tokens.insert(tokens.end(), cache_.begin() + begin, cache_.begin() + ends_[number]);
}

void Encoder::encode(std::string_view text, std::vector<std::uint32_t>& tokens) {
    tokenizer_.splitter().for_each(text, [&](std::string_view piece) { add(piece, tokens); });
}

void Encoder::encode_with_specials(std::string_view text, std::vector<std::uint32_t>& tokens) {
    while (!text.empty()) {
        auto first = text.size();
        Tokenizer::Special const* found = nullptr;
        // The leftmost, and among several there the longest.
        for (auto const& s : tokenizer_.specials()) {
            auto at = text.find(s.name);
            if (at == text.npos || at > first) continue;
            if (at < first || !found || s.name.size() > found->name.size()) first = at, found = &s;
        }
        encode(text.substr(0, first), tokens);
        text.remove_prefix(first);
        if (!found) continue;
        tokens.push_back(found->id);
        text.remove_prefix(found->name.size());
    }
}

void PieceCounter::add(std::string_view text) {
    splitter_.for_each(text, [&](std::string_view piece) {
        auto [number, fresh] = table_.insert(piece);
        if (fresh) counts_.push_back(0);
        ++counts_[number];
    });
}

void PieceCounter::add(PieceCounter const& other) {
    for (std::size_t i = 0; i < other.counts_.size(); ++i) {
        auto [number, fresh] = table_.insert(other.table_[i]);
        if (fresh) counts_.push_back(0);
        counts_[number] += other.counts_[i];
    }
}

std::vector<CountedPiece> PieceCounter::pieces() const {
    std::vector<CountedPiece> pieces;
    pieces.reserve(counts_.size());
    for (std::size_t i = 0; i < counts_.size(); ++i) pieces.push_back({table_[i], counts_[i]});
    return pieces;
}

Tokenizer train_tokenizer(std::span<CountedPiece const> pieces, std::int64_t vocabulary,
                          std::string pattern) {
    check<UsageError>(vocabulary >= 257, "a vocabulary of {} is too small: the 256 bytes and {} take 257",
                      vocabulary, end_of_text);
    auto pairs = learn_merges(pieces, vocabulary - 1);
    auto const last = static_cast<std::uint32_t>(pairs.tokens.size());
    return Tokenizer({std::move(pattern), std::move(pairs), {{std::string(end_of_text), last}}, false});
}

}  // namespace plait

#endif
