#ifdef PLAIT_HAS_JSON

#include "io_manifest.hpp"

#include "io_hash.hpp"
#include "plait/io/file.hpp"

#include <nlohmann/json.hpp>

#include <charconv>
#include <optional>
#include <set>

namespace plait::detail {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view ending = ".safetensors";
constexpr int most_parts = 99'999;  // five digits

/// The part that `name` is of a kind, or nothing.
std::optional<CheckpointPart> part_of(std::string_view kind, std::string_view name) {
    if (name == part_name(kind, {})) return CheckpointPart{};
    if (!name.starts_with(kind)) return {};
    name.remove_prefix(kind.size());
    // "-00002-of-00008.safetensors"
    if (name.size() != 15 + ending.size()) return {};
    CheckpointPart part;
    std::from_chars(name.data() + 1, name.data() + 6, part.index);
    std::from_chars(name.data() + 10, name.data() + 15, part.count);
    --part.index;
    bool known = part.index >= 0 && part.index < part.count && part.count > 1;
    if (!known || part_name(kind, part).substr(kind.size()) != name) return {};
    return part;
}

std::string hash_of(Json const& json) {
    ByteHash hash;
    auto text = json.dump();
    hash.update(std::as_bytes(std::span(text)));
    return hash.digest().value_or("");
}

}  // namespace

std::string part_name(std::string_view kind, CheckpointPart part) {
    check(part.count >= 1 && part.count <= most_parts && part.index >= 0 && part.index < part.count,
          "a checkpoint has 1 to {} parts, and none is part {} of {}", most_parts, part.index + 1,
          part.count);
    if (part.count == 1) return fmt::format("{}{}", kind, ending);
    return fmt::format("{}-{:05}-of-{:05}{}", kind, part.index + 1, part.count, ending);
}

std::vector<std::string> part_names(std::string const& where, Manifest const& manifest,
                                    std::string_view kind) {
    std::set<std::string> listed;
    std::string first;
    int count = 1;
    for (auto const& file : manifest.files) {
        auto part = part_of(kind, file.name);
        if (!part) continue;
        check(listed.insert(file.name).second, "{} lists {} twice", where, file.name);
        if (listed.size() == 1) first = file.name, count = part->count;
        check(count == part->count, "{} lists {} and {}, which are parts of two checkpoints", where, first,
              file.name);
    }
    std::vector<std::string> names;
    for (int i = 0; i < count; ++i) {
        names.push_back(part_name(kind, {i, count}));
        check(listed.contains(names.back()), "{} does not list {}", where, names.back());
    }
    return names;
}

std::string manifest_text(Manifest const& m) {
    Json files = Json::array();
    for (auto const& f : m.files) {
        Json file{{"name", f.name}, {"bytes", f.bytes}};
        if (f.xxh64) file["xxh64"] = *f.xxh64;
        if (!f.tensors.empty()) file["tensors"] = f.tensors;
        files.push_back(file);
    }
    Json json{{"format", Manifest::format},
              {"step", m.step},
              {"seed", m.seed},
              {"data_cursor", m.data_cursor},
              {"tokens", m.tokens},
              {"strings", m.strings},
              {"files", files}};
    try {
        // Its own hash catches a changed digit, which is still good JSON.
        if (auto hash = hash_of(json); !hash.empty()) json["xxh64"] = hash;
        return json.dump(2) + "\n";
    } catch (Json::exception const& e) {
        fail("a string of the manifest is not UTF-8: {}", e.what());
    }
}

Manifest read_manifest(fs::path const& path) {
    try {
        auto json = Json::parse(read_file(path));
        check(json.is_object() && json.contains("format"), "{} is not a manifest", path.string());
        auto format = json["format"].get<int>();
        check(format == Manifest::format, "{} has format {}, this version reads {}", path.string(), format,
              Manifest::format);
        bool const hashed = json.contains("xxh64");
        if (hashed) {
            auto stored = json["xxh64"].get<std::string>();
            json.erase("xxh64");
            auto actual = hash_of(json);
            check(actual.empty() || actual == stored, "{} has been changed: its hash is not the one it names",
                  path.string());
        }
        Manifest m;
        m.step = json.at("step").get<std::int64_t>();
        m.seed = json.at("seed").get<std::uint64_t>();
        m.data_cursor = json.at("data_cursor").get<std::int64_t>();
        m.tokens = json.at("tokens").get<std::int64_t>();
        m.strings = json.at("strings").get<std::map<std::string, std::string>>();
        for (auto const& f : json.at("files")) {
            m.files.push_back({f.at("name").get<std::string>(), f.at("bytes").get<std::int64_t>(), {}, {}});
            if (f.contains("tensors"))
                m.files.back().tensors = f["tensors"].get<std::map<std::string, std::string>>();
            if (f.contains("xxh64")) m.files.back().xxh64 = f["xxh64"].get<std::string>();
            check(hashed || !m.files.back().xxh64, "{} has been changed: it has lost its hash",
                  path.string());
        }
        return m;
    } catch (Json::exception const& e) {
        fail("{} is not a manifest: {}", path.string(), std::string(e.what()).substr(0, 200));
    }
}

}  // namespace plait::detail

#endif
