#pragma once

#include "plait/data/bpe.hpp"
#include "plait/data/splitter.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plait {

/// The token that ends every document.
inline constexpr std::string_view end_of_text = "<|endoftext|>";

/// Byte-level BPE over pieces of text, as GPT-2, GPT-4 and Llama 3 have it. Any bytes encode, and decode to
/// themselves. Present where Plait was built with nlohmann-json; splitting needs PCRE2.
class Tokenizer {
  public:
    /// A token that stands for no text, and its name.
    struct Special {
        std::string name;
        std::uint32_t id;
        bool operator==(Special const&) const = default;
    };
    struct Parts {
        std::string pattern{gpt4_pattern};
        BytePairs pairs;
        std::vector<Special> specials;
        bool whole_pieces = false;  // a piece that is a token is not merged (Llama 3)
    };
    /// Throws Error for a byte without a token, and for parts without a token that ends documents.
    explicit Tokenizer(Parts parts);

    /// Reads the tokenizer.json of Hugging Face's `tokenizers`: byte-level BPE without normalizer. What it
    /// adds around a text (post_processor) is left out. Throws UsageError with the file and what is wrong.
    static Tokenizer load(std::filesystem::path const& file);
    /// The text of a tokenizer.json that `tokenizers` loads, with equal ids.
    std::string json() const;

    /// Every id is below it.
    std::int64_t vocabulary() const { return static_cast<std::int64_t>(parts_->pairs.tokens.size()); }
    /// The token that ends documents.
    std::uint32_t separator() const { return separator_; }
    Splitter const& splitter() const { return *splitter_; }
    std::vector<Special> const& specials() const { return parts_->specials; }
    bool whole_pieces() const { return parts_->whole_pieces; }
    BytePairs const& pairs() const { return parts_->pairs; }
    PieceMerger const& merger() const { return *merger_; }

    /// The bytes of a token; of a special one its name, of an id without a token nothing. Throws Error for an
    /// id outside the vocabulary.
    std::string_view bytes_of(std::uint32_t id) const;
    std::string decode(std::span<std::uint32_t const> ids) const;

    /// 16 hex digits that tell tokenizers apart: pattern, tokens, merges and special tokens.
    std::string hash() const;

  private:
    // Behind pointers, so that a tokenizer can be moved.
    std::unique_ptr<Parts> parts_;
    std::unique_ptr<Splitter> splitter_;
    std::unique_ptr<PieceMerger> merger_;
    std::uint32_t separator_ = 0;
};

/// Encodes for one thread and remembers pieces that it has seen. The tokenizer must outlive it.
class Encoder {
  public:
    explicit Encoder(Tokenizer const& tokenizer) : tokenizer_(tokenizer) {}

    /// Appends the tokens of `text`. Names of special tokens in it are text like any other.
    void encode(std::string_view text, std::vector<std::uint32_t>& tokens);
    /// The same, but names of special tokens become those.
    void encode_with_specials(std::string_view text, std::vector<std::uint32_t>& tokens);

  private:
    void add(std::string_view piece, std::vector<std::uint32_t>& tokens);
    void merge(std::string_view piece, std::vector<std::uint32_t>& tokens);

    Tokenizer const& tokenizer_;
    PieceMerger::Scratch scratch_;
    PieceTable seen_;
    std::vector<std::uint32_t> ends_;  // in `cache_`, of the pieces of `seen_`
    std::vector<std::uint32_t> cache_;
    std::optional<PieceTable> whole_;  // tokens as pieces, when these are not merged
    std::vector<std::uint32_t> whole_ids_;
};

/// Counts the pieces of documents, for learn_merges. Counters of several threads add up.
class PieceCounter {
  public:
    explicit PieceCounter(Splitter const& splitter) : splitter_(splitter) {}

    void add(std::string_view text);
    void add(PieceCounter const& other);
    /// Valid as long as the counter is not changed.
    std::vector<CountedPiece> pieces() const;

  private:
    Splitter const& splitter_;
    PieceTable table_;
    std::vector<std::int64_t> counts_;
};

/// A tokenizer with up to `vocabulary` tokens, learned from counted pieces: the bytes, merges, and
/// end_of_text as the last one. Throws UsageError for a vocabulary below 257.
Tokenizer train_tokenizer(std::span<CountedPiece const> pieces, std::int64_t vocabulary,
                          std::string pattern = std::string(gpt4_pattern));

}  // namespace plait
