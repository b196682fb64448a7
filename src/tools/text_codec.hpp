#pragma once

#include "plait/data/tokenizer.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plait::tools {

/// Text to tokens and back, as a run has them: by its tokenizer.json, or byte by byte without one.
class TextCodec {
  public:
    /// Of the run in a folder, which was trained on `data`. Throws UsageError for a tokenizer.json that
    /// cannot be read, and where there is none though the run was on files of tokens.
    static TextCodec of_run(std::filesystem::path const& run, std::vector<std::string> const& data);

    /// By a tokenizer, which must outlive this; null: byte by byte.
    static TextCodec of(Tokenizer const* tokenizer);

    /// Every token is below it.
    std::int64_t vocabulary() const { return tokenizer_ ? tokenizer_->vocabulary() : 256; }
    std::vector<std::int32_t> encode(std::string_view text) const;
    /// The bytes of one token, which may be a part of a character.
    std::string decode(std::int32_t token) const;
    /// What stands before a text that begins: the end of a document, or a line break.
    std::int32_t start() const;
    /// The token that ends documents; nothing for bytes.
    std::optional<std::int32_t> end() const;

  private:
    std::shared_ptr<Tokenizer const> tokenizer_;
};

}  // namespace plait::tools
