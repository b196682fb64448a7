#pragma once

#include <optional>
#include <string>

#include "config.hpp"
#include "plait/data/loader.hpp"
#include "plait/data/prepared.hpp"
#include "plait/data/text.hpp"

namespace plait::tools {

/// The text of a run, as bytes or as tokens, and how it is divided.
struct Corpus {
    Text text;
    Text validation_text;  // empty when validation is a part of `text`
    // Of a run on tokens, mapped.
    TokenFiles files, validation_files;
    std::optional<Tokenizer> tokenizer;
    std::string tokenizer_json;  // the file, as it is
    std::string source;          // what the tokens are, for people
    std::string tokens_hash;     // of all files and the tokenizer
    Pieces train, validation;

    Tokens train_tokens() const { return on_tokens() ? files.tokens : Tokens(text.bytes); }
    Tokens validation_tokens() const;
    /// Of the validation part; nothing where the bytes of the tokens are not known.
    std::optional<double> tokens_per_byte() const { return tokens_per_byte_; }
    /// The text of the validation part in one piece; empty where it is not known.
    std::vector<std::uint8_t> validation_copy() const;
    /// The text, and a copy of its validation part at the end of a run. Files of tokens are mapped, so that
    /// they count as much as is used of them, at most all.
    std::int64_t resident_bytes() const;
    /// "12 files, 34,567 bytes; 32,000 for training, 2,567 for validation".
    std::string summary() const;
    /// Tells texts apart: size and hash.
    std::string fingerprint() const;

    bool on_tokens() const { return !files.files.empty(); }
    std::int64_t bytes() const { return std::ssize(text.bytes) + std::ssize(validation_text.bytes); }
    std::optional<double> tokens_per_byte_ = 1;
};

/// Reads what data.* names: text, files of tokens (.bin, .safetensors), or a folder that plait prepare made.
/// Throws UsageError as read_text and TokenFile do, and for a tokenizer or a model.vocab that does not fit.
Corpus load_corpus(Config const& config);

/// Puts the corpus' tokenizer beside a run, for plait generate. Throws UsageError where a run that goes on
/// was trained with another one.
void keep_tokenizer(Corpus const& corpus, std::string const& run, bool goes_on);

}  // namespace plait::tools
