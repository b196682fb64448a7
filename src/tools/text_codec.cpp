#include "text_codec.hpp"

#include "plait/data/prepared.hpp"

namespace plait::tools {

TextCodec TextCodec::of_run(std::filesystem::path const& run, std::vector<std::string> const& data) {
    TextCodec codec;
    auto const file = run / Prepared::tokenizer_file;
    std::error_code ignored;
    if (std::filesystem::exists(file, ignored))
        codec.tokenizer_ = std::make_shared<Tokenizer>(Tokenizer::load(file));
    else
        for (auto const& path : data)
            check<UsageError>(
                !TokenFile::is_named(path),
                "{}: it has no tokenizer.json, as {} came without one: copy the tokenizer that made "
                "these tokens there, or train with data.tokenizer",
                run.string(), path);
    return codec;
}

TextCodec TextCodec::of(Tokenizer const* tokenizer) {
    TextCodec codec;
    codec.tokenizer_ = {std::shared_ptr<void>(), tokenizer};
    return codec;
}

std::vector<std::int32_t> TextCodec::encode(std::string_view text) const {
    std::vector<std::int32_t> tokens;
    if (!tokenizer_) {
        for (char c : text) tokens.push_back(static_cast<unsigned char>(c));
        return tokens;
    }
    std::vector<std::uint32_t> ids;
    Encoder(*tokenizer_).encode(text, ids);
    return {ids.begin(), ids.end()};
}

std::string TextCodec::decode(std::int32_t token) const {
    if (!tokenizer_) return std::string(1, static_cast<char>(token));
    return std::string(tokenizer_->bytes_of(static_cast<std::uint32_t>(token)));
}

std::int32_t TextCodec::start() const { return end().value_or('\n'); }

std::optional<std::int32_t> TextCodec::end() const {
    return tokenizer_ ? std::optional(static_cast<std::int32_t>(tokenizer_->separator())) : std::nullopt;
}

}  // namespace plait::tools
