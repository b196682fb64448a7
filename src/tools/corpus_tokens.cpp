#include "corpus_tokens.hpp"

#include <numeric>

#include "plait/io/file.hpp"
#include "plait/train/progress.hpp"

namespace plait::tools {
namespace {

namespace fs = std::filesystem;

std::string count(std::int64_t n) { return count_text(static_cast<double>(n)); }

std::int64_t size_of(Pieces const& pieces) {
    return std::accumulate(pieces.begin(), pieces.end(), std::int64_t{0},
                           [](std::int64_t n, Piece const& p) { return n + p.size(); });
}

struct TokenLoader {
    Config const& config;
    Corpus corpus;
    std::string tokenizer_file;
    std::uint64_t hash = 0;
    std::optional<std::int64_t> validation_bytes;  // that its tokens stand for

    std::string origin(std::string const& key) const {
        auto it = config.origins.find(key);
        return it == config.origins.end() ? "default" : it->second;
    }

    void take_tokenizer(fs::path const& file) {
        tokenizer_file = file.string();
        corpus.tokenizer = Tokenizer::load(file);
        corpus.tokenizer_json = read_file(file);
        auto const has = corpus.tokenizer->vocabulary(), wants = config.model.vocab;
        check<UsageError>(wants >= has,
                          "model.vocab = {} ({}): {} has {} tokens: set model.vocab to at least {}", wants,
                          origin("model.vocab"), tokenizer_file, has, has);
    }

    /// What the tokens were made with must be the tokenizer that the run has.
    void check_maker(std::string const& what, std::string const& hash_of_maker) const {
        if (!corpus.tokenizer) return;
        auto const own = corpus.tokenizer->hash();
        check<UsageError>(
            hash_of_maker == own,
            "{}: its tokens were made with the tokenizer {}, but {} is {}: name the one that they were "
            "made with as data.tokenizer",
            what, hash_of_maker, tokenizer_file, own);
    }

    void note(TokenFiles const& files) {
        for (auto const& f : files.files) hash = mix(hash ^ f.hash());
    }

    void take_files(std::vector<std::string> const& paths, TokenFiles& files) {
        for (auto const& path : paths) {
            files.open(path);
            auto const& file = files.files.back();
            if (file.text()) check_maker(path, file.text()->tokenizer);
            file.verify(config.model.vocab, "model.vocab");
            if (!corpus.source.empty()) corpus.source += "; ";
            corpus.source += path + ": " + file.summary();
            if (file.format() == TokenFormat::nano_gpt) corpus.source += ", as it has no header";
        }
    }

    void take_folder(fs::path const& folder, Prepared const& prepared, ShardList const& list,
                     TokenFiles& files) {
        files.open(folder, list);
        for (auto const& file : files.files) {
            if (file.text()) check_maker(file.path().string(), file.text()->tokenizer);
            // A shard of llm.c's tells nothing of its vocabulary.
            else file.verify(prepared.vocabulary, "the vocabulary");
        }
    }

    void run() {
        auto const& data = config.data;
        bool const prepared = Prepared::is_at(data.path.front());
        fs::path const folder = data.path.front();
        if (!data.tokenizer.empty()) take_tokenizer(data.tokenizer);
        if (prepared) {
            auto const manifest = Prepared::load(folder);
            if (data.tokenizer.empty()) take_tokenizer(folder / Prepared::tokenizer_file);
            check_maker((folder / Prepared::file_name).string(), manifest.tokenizer);
            corpus.source = folder.string();
            take_folder(folder, manifest, manifest.train, corpus.files);
            take_validation_of(folder, manifest);
        } else {
            take_files(data.path, corpus.files);
        }
        auto const size = corpus.files.tokens.size();
        check<UsageError>(size > 0, "{}: there are no tokens for training", folder.string());
        if (!data.validation.path.empty()) take_validation(data.validation.path);
        else if (!prepared) divide(size);
        if (corpus.train.empty()) corpus.train = {{0, size}};
        if (!corpus.validation_files.files.empty())
            corpus.validation = {{0, corpus.validation_files.tokens.size()}};
        note(corpus.files), note(corpus.validation_files);
        corpus.tokens_hash = fmt::format("{:016x}", hash);
        count_bytes();
    }

    void divide(std::int64_t size) {
        auto split = split_text(size, config.data.validation.fraction);
        corpus.train = std::move(split.train);
        corpus.validation = std::move(split.validation);
    }

    /// The folder's own part, where it has one.
    void take_validation_of(fs::path const& folder, Prepared const& manifest) {
        auto const& v = config.data.validation;
        if (!v.path.empty() || v.fraction == 0) return;
        if (manifest.validation.shards.empty()) return divide(corpus.files.tokens.size());
        take_folder(folder, manifest, manifest.validation, corpus.validation_files);
        validation_bytes = manifest.validation.text_bytes();
    }

    void take_validation(fs::path const& path) {
        if (!Prepared::is_at(path)) {
            check<UsageError>(
                TokenFile::is_named(path),
                "data.validation = {}: data.path names tokens, so this must be tokens too: a prepared "
                "folder, .bin or .safetensors",
                value_text(path.string()));
            return take_files({path.string()}, corpus.validation_files);
        }
        auto const manifest = Prepared::load(path);
        check_maker((path / Prepared::file_name).string(), manifest.tokenizer);
        take_folder(path, manifest, manifest.validation, corpus.validation_files);
        validation_bytes = manifest.validation.text_bytes();
    }

    void count_bytes() {
        auto const tokens = size_of(corpus.validation);
        if (!validation_bytes && corpus.tokenizer) {
            auto const all = corpus.validation_tokens();
            validation_bytes = 0;
            for (auto const& p : corpus.validation)
                *validation_bytes += text_bytes(all, *corpus.tokenizer, p.begin, p.end);
        }
        corpus.tokens_per_byte_.reset();
        if (validation_bytes && *validation_bytes > 0)
            corpus.tokens_per_byte_ = static_cast<double>(tokens) / static_cast<double>(*validation_bytes);
        corpus.source += fmt::format(": {} tokens for training, {} for validation",
                                     count(size_of(corpus.train)), count(tokens));
        if (corpus.tokenizer)
            corpus.source += fmt::format("; vocabulary {}", count(corpus.tokenizer->vocabulary()));
        if (corpus.tokens_per_byte_)
            corpus.source += fmt::format(", {:.3f} bytes per token", 1 / *corpus.tokens_per_byte_);
    }
};

}  // namespace

bool names_tokens(DataConfig const& data) {
    std::size_t tokens = 0;
    for (auto const& path : data.path) {
        bool const prepared = Prepared::is_at(path);
        check<UsageError>(!prepared || data.path.size() == 1,
                          "data.path: {} is a prepared folder: it must be the only path", path);
        tokens += prepared || TokenFile::is_named(path);
    }
    check<UsageError>(tokens == 0 || tokens == data.path.size(),
                      "data.path names text and tokens: prepare the text with plait prepare");
    check<UsageError>(
        tokens > 0 || data.tokenizer.empty(),
        "data.tokenizer = {}: data.path names text, whose bytes are the tokens: prepare it with plait "
        "prepare --tokenizer {}",
        value_text(data.tokenizer), data.tokenizer);
    return tokens > 0;
}

Corpus load_tokens(Config const& config) {
    TokenLoader loader{config, {}, "", 0, {}};
    loader.run();
    return std::move(loader.corpus);
}

}  // namespace plait::tools
