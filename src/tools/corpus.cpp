#include "corpus.hpp"

#include <numeric>

#include "plait/core/random.hpp"
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

std::string Corpus::summary() const {
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

std::int64_t Corpus::resident_bytes() const { return bytes() + size_of(validation); }

std::string Corpus::fingerprint() const {
    auto text_hash = mix(hash_of(text)) + hash_of(validation_text);
    return fmt::format("{} bytes, {:016x}", bytes(), text_hash);
}

Corpus load_corpus(DataConfig const& data) {
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

}  // namespace plait::tools
