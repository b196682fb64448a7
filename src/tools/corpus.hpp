#pragma once

#include <span>
#include <string>

#include "config.hpp"
#include "plait/data/loader.hpp"
#include "plait/data/text.hpp"

namespace plait::tools {

/// The text of a run and how it is divided.
struct Corpus {
    Text text;
    Text validation_text;  // empty when validation is a part of `text`
    Pieces train, validation;

    std::span<std::uint8_t const> train_bytes() const { return text.bytes; }
    std::span<std::uint8_t const> validation_bytes() const {
        return validation_text.bytes.empty() ? text.bytes : validation_text.bytes;
    }
    /// The validation text in one piece.
    std::vector<std::uint8_t> validation_copy() const { return gather(validation_bytes(), validation); }
    std::int64_t bytes() const { return std::ssize(text.bytes) + std::ssize(validation_text.bytes); }
    /// The text, and a copy of its validation part at the end of a run.
    std::int64_t resident_bytes() const;
    /// "12 files, 34,567 bytes; 32,000 for training, 2,567 for validation".
    std::string summary() const;
    /// Tells texts apart: size and hash.
    std::string fingerprint() const;
};

/// Reads what data.* names. Throws UsageError as read_text does.
Corpus load_corpus(DataConfig const& data);

}  // namespace plait::tools
