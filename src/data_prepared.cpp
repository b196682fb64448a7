#ifdef PLAIT_HAS_JSON

#include "plait/data/prepared.hpp"

#include "plait/io/file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace plait {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view manifest_format = "plait prepared 1";

Json json_of(ShardList const& list) {
    auto rows = Json::array();
    for (auto const& s : list.shards)
        rows.push_back({{"file", s.file},
                        {"documents", s.documents},
                        {"tokens", s.tokens},
                        {"text_bytes", s.text_bytes},
                        {"file_bytes", s.file_bytes},
                        {"hash", s.hash}});
    return {{"documents", list.documents()},
            {"tokens", list.tokens()},
            {"text_bytes", list.text_bytes()},
            {"shards", rows}};
}

ShardList list_of(Json const& json) {
    ShardList list;
    for (auto const& row : json.at("shards")) {
        Shard s;
        s.file = row.at("file").get<std::string>();
        s.documents = row.at("documents").get<std::int64_t>();
        s.tokens = row.at("tokens").get<std::int64_t>();
        s.text_bytes = row.at("text_bytes").get<std::int64_t>();
        s.file_bytes = row.at("file_bytes").get<std::int64_t>();
        s.hash = row.at("hash").get<std::string>();
        // A name, so that a manifest leads nowhere else.
        if (s.file.empty() || s.file.find('/') != s.file.npos || s.tokens < 0 || s.text_bytes < 0)
            throw std::out_of_range("a shard that cannot be");
        list.shards.push_back(std::move(s));
    }
    return list;
}

}  // namespace

std::string Prepared::json() const {
    Json const root{{"format", manifest_format},
                    {"tokenizer", tokenizer},
                    {"vocabulary", vocabulary},
                    {"options", options},
                    {"files", files},
                    {"train", json_of(train)},
                    {"validation", json_of(validation)}};
    return root.dump(2) + "\n";
}

Prepared Prepared::parse(std::string const& json, std::string const& name) {
    try {
        auto const root = Json::parse(json);
        check<UsageError>(root.at("format") == manifest_format,
                          "{}: its format is {}, this version reads \"{}\"", name, root.at("format").dump(),
                          manifest_format);
        Prepared p;
        p.tokenizer = root.at("tokenizer").get<std::string>();
        p.vocabulary = root.at("vocabulary").get<std::int64_t>();
        p.options = root.at("options").get<std::map<std::string, std::string>>();
        p.files = root.at("files").get<std::map<std::string, std::int64_t>>();
        p.train = list_of(root.at("train"));
        p.validation = list_of(root.at("validation"));
        return p;
    } catch (Json::exception const& e) {
        fail<UsageError>("{}: it is damaged: {}; run plait prepare again, into another folder", name,
                         std::string(e.what()).substr(0, 200));
    } catch (std::out_of_range const& e) {
        fail<UsageError>("{}: it is damaged: {}", name, e.what());
    }
}

Prepared Prepared::load(std::filesystem::path const& folder) {
    auto const file = folder / file_name;
    std::error_code ignored;
    check<UsageError>(std::filesystem::exists(file, ignored),
                      "{}: its preparation is not finished: run plait prepare with --out {} again",
                      folder.string(), folder.string());
    return parse(read_file(file), file.string());
}

bool Prepared::is_at(std::filesystem::path const& folder) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(folder, ignored)) return false;
    if (std::filesystem::exists(folder / "prepare-state.json", ignored)) return true;
    auto const file = folder / file_name;
    return std::filesystem::exists(file, ignored) &&
           read_file(file).find(manifest_format) != std::string::npos;
}

void TokenFiles::open(std::filesystem::path const& file) {
    files.emplace_back(file);
    files.back().add_to(tokens);
}

void TokenFiles::open(std::filesystem::path const& folder, ShardList const& list) {
    for (auto const& shard : list.shards) {
        auto const file = folder / shard.file;
        std::error_code error;
        auto const has = std::filesystem::file_size(file, error);
        check<UsageError>(!error, "{}: cannot be read: {}", file.string(), error.message());
        check<UsageError>(std::cmp_equal(has, shard.file_bytes),
                          "{} is {}: it has {} bytes, the manifest tells {}", file.string(),
                          std::cmp_less(has, shard.file_bytes) ? "truncated" : "too long", has,
                          shard.file_bytes);
        open(file);
        auto const& opened = files.back();
        check<UsageError>(
            fmt::format("{:016x}", opened.hash()) == shard.hash,
            "{}: it was changed since it was written: its hash is {:016x}, the manifest tells {}",
            file.string(), opened.hash(), shard.hash);
        check<UsageError>(opened.size() == shard.tokens, "{}: it has {} tokens, the manifest tells {}",
                          file.string(), opened.size(), shard.tokens);
    }
}

std::int64_t text_bytes(Tokens const& tokens, Tokenizer const& tokenizer, std::int64_t begin,
                        std::int64_t end) {
    auto const& all = tokenizer.pairs().tokens;
    std::array<std::int32_t, 4096> part;
    std::int64_t bytes = 0;
    for (auto at = begin; at < end; at += std::ssize(part)) {
        auto const n = std::min<std::int64_t>(std::ssize(part), end - at);
        tokens.copy(at, n, part.data());
        for (std::int64_t i = 0; i < n; ++i) {
            auto const id = static_cast<std::size_t>(part[static_cast<std::size_t>(i)]);
            if (id < all.size()) bytes += std::ssize(all[id]);  // those of special tokens are empty
        }
    }
    return bytes;
}

}  // namespace plait

#endif
