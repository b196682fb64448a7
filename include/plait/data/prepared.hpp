#pragma once

#include "plait/data/token_file.hpp"
#include "plait/data/tokenizer.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace plait {

/// A file of tokens in a prepared folder.
struct Shard {
    std::string file;
    std::int64_t documents = 0, tokens = 0;
    std::int64_t text_bytes = 0;
    std::int64_t file_bytes = 0;
    std::string hash;  // 16 hex digits of the whole file
    bool operator==(Shard const&) const = default;
};

/// One side of the split.
struct ShardList {
    std::vector<Shard> shards;
    std::int64_t documents() const { return sum(&Shard::documents); }
    std::int64_t tokens() const { return sum(&Shard::tokens); }
    std::int64_t text_bytes() const { return sum(&Shard::text_bytes); }

  private:
    std::int64_t sum(std::int64_t Shard::*field) const {
        std::int64_t n = 0;
        for (auto const& s : shards) n += s.*field;
        return n;
    }
};

/// What a folder of tokens holds, as its manifest.json tells it; nothing in it depends on where or when it
/// was made.
struct Prepared {
    static constexpr std::string_view file_name = "manifest.json", tokenizer_file = "tokenizer.json";

    std::string tokenizer;  // Tokenizer::hash
    std::int64_t vocabulary = 0;
    std::map<std::string, std::string> options;  // that the bytes depend on
    std::map<std::string, std::int64_t> files;   // how many were used, and left out for which reason
    ShardList train, validation;

    std::string json() const;
    /// Throws UsageError of one line with `name` and what is wrong.
    static Prepared parse(std::string const& json, std::string const& name);
    /// Reads the manifest of a folder. Throws UsageError for one that is not there or is unfinished.
    static Prepared load(std::filesystem::path const& folder);
    /// Whether a folder was prepared, wholly or in part.
    static bool is_at(std::filesystem::path const& folder);
};

/// Token files in order, opened.
struct TokenFiles {
    std::vector<TokenFile> files;
    Tokens tokens;

    void open(std::filesystem::path const& file);
    /// Opens the shards of a list. Throws UsageError for one whose size or contents are not those that the
    /// manifest tells, naming it.
    void open(std::filesystem::path const& folder, ShardList const& list);
};

/// Bytes of text that tokens [begin, end) stand for; special tokens stand for none.
std::int64_t text_bytes(Tokens const& tokens, Tokenizer const& tokenizer, std::int64_t begin,
                        std::int64_t end);

}  // namespace plait
