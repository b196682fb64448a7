#include "corpus.hpp"

#include "corpus_tokens.hpp"

#include <numeric>

#include "plait/core/random.hpp"
#include "plait/io/file.hpp"
#include "plait/train/progress.hpp"

namespace plait::tools {
namespace {

std::int64_t size_of(Pieces const& pieces) {
    return std::accumulate(pieces.begin(), pieces.end(), std::int64_t{0},
                           [](std::int64_t n, Piece const& p) { return n + p.size(); });
}

std::string count(std::int64_t n) { return count_text(static_cast<double>(n)); }

std::uint64_t hash_of(Text const& text) {
    return hash_name({reinterpret_cast<char const*>(text.bytes.data()), text.bytes.size()});
}

}  // namespace

Tokens Corpus::validation_tokens() const {
    if (on_tokens()) return validation_files.files.empty() ? files.tokens : validation_files.tokens;
    return validation_text.bytes.empty() ? text.bytes : validation_text.bytes;
}

std::vector<std::uint8_t> Corpus::validation_copy() const {
    if (!on_tokens())
        return gather(validation_text.bytes.empty() ? text.bytes : validation_text.bytes, validation);
    std::vector<std::uint8_t> bytes;
    if (!tokenizer) return bytes;
    auto const all = validation_tokens();
    std::vector<std::int32_t> part(65536);
    for (auto const& p : validation)
        for (auto at = p.begin; at < p.end; at += std::ssize(part)) {
            auto const n = std::min<std::int64_t>(std::ssize(part), p.end - at);
            all.copy(at, n, part.data());
            for (std::int64_t i = 0; i < n; ++i) {
                auto const id = static_cast<std::uint32_t>(part[static_cast<std::size_t>(i)]);
                if (id >= tokenizer->pairs().tokens.size()) continue;
                auto const& token = tokenizer->pairs().tokens[id];  // empty for special ones
                bytes.insert(bytes.end(), token.begin(), token.end());
            }
        }
    return bytes;
}

std::string Corpus::summary() const {
    if (on_tokens()) return source;
    auto files = text.documents() + validation_text.documents();
    auto line = fmt::format("{} {}, {} bytes: {} for training, {} for validation", files,
                            files == 1 ? "file" : "files", count(bytes()), count(size_of(train)),
                            count(size_of(validation)));
    auto left_out = [&](std::int64_t n, std::string_view why) {
        if (n > 0) line += fmt::format("; {} {} left out", n, why);
    };
    left_out(text.binary_files + validation_text.binary_files, "binary");
    left_out(text.unreadable_files + validation_text.unreadable_files, "unreadable");
    left_out(text.capped_files + validation_text.capped_files, "beyond data.max_bytes");
    return line;
}

std::int64_t Corpus::resident_bytes() const {
    if (!on_tokens()) return bytes() + size_of(validation);
    std::int64_t n = 0;
    for (auto const* side : {&files, &validation_files})
        for (auto const& f : side->files) n += f.size() * f.width();
    auto const copied = tokens_per_byte_ ? static_cast<double>(size_of(validation)) / *tokens_per_byte_ : 0;
    return n + static_cast<std::int64_t>(copied);
}

std::string Corpus::fingerprint() const {
    if (on_tokens())
        return fmt::format("{} tokens, {}", files.tokens.size() + validation_files.tokens.size(),
                           tokens_hash);
    auto text_hash = mix(hash_of(text)) + hash_of(validation_text);
    return fmt::format("{} bytes, {:016x}", bytes(), text_hash);
}

Corpus load_corpus(Config const& config) {
    auto const& data = config.data;
    if (names_tokens(data)) return load_tokens(config);
    Corpus corpus;
    TextOptions options{data.extensions, data.max_bytes};
    corpus.text = read_text(data.path, options);
    auto size = std::ssize(corpus.text.bytes);
    if (data.validation.path.empty()) {
        auto split = split_text(size, data.validation.fraction);
        corpus.train = std::move(split.train);
        corpus.validation = std::move(split.validation);
    } else {
        std::string const paths[] = {data.validation.path};
        corpus.validation_text = read_text(paths, options);
        corpus.train = {{0, size}};
        corpus.validation = {{0, std::ssize(corpus.validation_text.bytes)}};
    }
    return corpus;
}

void keep_tokenizer(Corpus const& corpus, std::string const& run, bool goes_on) {
    auto const file = std::filesystem::path(run) / Prepared::tokenizer_file;
    std::error_code ignored;
    bool const there = std::filesystem::exists(file, ignored);
    auto const had = goes_on && there ? Tokenizer::load(file).hash() : "bytes";
    auto const now = corpus.tokenizer ? corpus.tokenizer->hash() : "bytes";
    check<UsageError>(
        !goes_on || had == now,
        "{} was trained with another tokenizer: with {}, the text has {} now: name the tokens that it "
        "began with, or another run.out",
        run, had, now);
    if (!corpus.tokenizer) {
        if (there) std::filesystem::remove(file);
        return;
    }
    if (!there || !goes_on) write_file_atomically(file, corpus.tokenizer_json);
}

}  // namespace plait::tools
