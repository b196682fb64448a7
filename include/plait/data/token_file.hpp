#pragma once

#include "plait/data/tokens.hpp"
#include "plait/io/mapped_file.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace plait {

/// The forms of files of tokens.
enum class TokenFormat : std::uint8_t {
    plait,    // safetensors with `documents` and `tokens`
    llm_c,    // a header of 256 int32, then uint16 (magic 20240520) or uint32 (20240801)
    nano_gpt  // uint16 and nothing else
};

/// What stands beside the tokens in a file of Plait's form.
struct ShardText {
    std::int64_t vocabulary = 0;  // every token is below it
    std::string tokenizer;        // Tokenizer::hash of the one that made them
    std::int64_t bytes = 0;       // of the text
};

/// A file of tokens, mapped. Opening it checks that what the header tells is there. Present where Plait was
/// built with nlohmann-json.
class TokenFile {
  public:
    /// Tells the form by the first bytes; a .bin without a header that is known is taken for nanoGPT's.
    /// Throws UsageError of one line with the file and what is wrong.
    explicit TokenFile(std::filesystem::path path);

    /// Whether a path is meant as a file of tokens: .bin or .safetensors.
    static bool is_named(std::filesystem::path const& path);

    std::filesystem::path const& path() const { return path_; }
    TokenFormat format() const { return format_; }
    std::int64_t size() const;
    /// Bytes of a token: 2 or 4.
    int width() const { return std::holds_alternative<Short>(tokens_) ? 2 : 4; }
    /// Of Plait's form only.
    std::optional<ShardText> const& text() const { return text_; }
    /// Where documents begin, and `size` at the end; empty for other forms than Plait's.
    std::span<std::int64_t const> documents() const { return documents_; }
    /// Adds the tokens to a view, which is valid as long as this file.
    void add_to(Tokens& tokens) const;
    /// hash_bytes of the whole file.
    std::uint64_t hash() const;
    /// Looks at every token, and in Plait's form at its hash. Throws UsageError with the file, the position
    /// and the token for one that is not below `vocabulary`, which `owner` has ("model.vocab"), and for a
    /// file that was changed.
    void verify(std::int64_t vocabulary, std::string_view owner) const;
    /// "llm.c, uint16, 1,234 tokens"
    std::string summary() const;

  private:
    using Short = std::span<std::uint16_t const>;
    using Long = std::span<std::uint32_t const>;

    void read_plait();
    void read_llm_c(std::int32_t version, int width);
    void read_nano_gpt();
    void set_tokens(std::span<std::byte const> bytes, int width);

    std::filesystem::path path_;
    MappedFile file_;
    TokenFormat format_ = TokenFormat::nano_gpt;
    std::variant<Short, Long> tokens_;
    std::optional<ShardText> text_;
    std::string data_hash_;
    std::span<std::int64_t const> documents_;
};

/// A whole file of Plait's form: a safetensors file with `documents` i64[documents + 1], where each begins
/// and the end of the last, and `tokens` u16[n], u32[n] for vocabularies beyond 65,536, and what stands in
/// `text` as metadata. Throws Error for a token outside the vocabulary.
std::string plait_shard(std::span<std::uint32_t const> tokens, std::span<std::int64_t const> documents,
                        ShardText const& text);

/// A whole file as llm.c reads it: magic 20240520 and uint16, or 20240801 and uint32 for vocabularies beyond
/// 65,536. Throws Error for a token outside the vocabulary and for 2^31 tokens and more.
std::string llm_c_shard(std::span<std::uint32_t const> tokens, std::int64_t vocabulary);

}  // namespace plait
