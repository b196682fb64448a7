#ifdef PLAIT_HAS_JSON

#include "plait/data/tokenizer.hpp"

#include "plait/core/check.hpp"
#include "plait/data/utf8.hpp"
#include "plait/io/file.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <unordered_map>

namespace plait {
namespace {

using Json = nlohmann::json;
using Ordered = nlohmann::ordered_json;

// Larger than any vocabulary.
constexpr std::size_t most_tokens = 1 << 24;

/// GPT-2's alphabet: each byte as one visible character. The visible ones of Latin-1 stand for themselves,
/// the others for characters from U+0100 on.
std::array<std::string, 256> const& alphabet() {
    static auto const letters = [] {
        std::array<std::string, 256> a;
        unsigned next = 256;
        for (unsigned b = 0; b < 256; ++b) {
            bool const visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            unsigned const c = visible ? b : next++;
            if (c < 128) a[b] = static_cast<char>(c);
            else a[b] = {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
        }
        return a;
    }();
    return letters;
}

std::string spelled(std::string_view bytes) {
    std::string text;
    for (char c : bytes) text += alphabet()[static_cast<unsigned char>(c)];
    return text;
}

/// The bytes that `text` spells, or nothing.
std::optional<std::string> unspelled(std::string_view text) {
    static auto const bytes = [] {
        std::unordered_map<std::string_view, char> m;
        for (std::size_t b = 0; b < 256; ++b) m[alphabet()[b]] = static_cast<char>(b);
        return m;
    }();
    std::string out;
    while (!text.empty()) {
        auto it = bytes.find(text.substr(0, static_cast<unsigned char>(text[0]) < 128 ? 1 : 2));
        if (it == bytes.end()) return {};
        out += it->second;
        text.remove_prefix(it->first.size());
    }
    return out;
}

class JsonReader {
  public:
    explicit JsonReader(std::filesystem::path const& file) : file_(file.string()) {
        try {
            root_ = Json::parse(read_file(file));
        } catch (Json::exception const& e) {
            want(false, "it is not JSON: " + std::string(e.what()).substr(0, 200));
        } catch (Error const& e) {
            throw UsageError(e.what());
        }
        want(root_.is_object() && root_.contains("model"), "it has no model");
    }

    Tokenizer::Parts parts() {
        read_model();
        read_added();
        Tokenizer::Parts parts;
        parts.pattern = pattern();
        parts.pairs = std::move(pairs_);
        parts.specials = std::move(specials_);
        parts.whole_pieces = flag(root_["model"], "ignore_merges");
        return parts;
    }

    void want(bool ok, std::string const& what) const {
        check<UsageError>(ok, "the tokenizer {} cannot be used: {}", file_, what);
    }

  private:
    static bool is_nothing(Json const& object, char const* key) {
        return !object.contains(key) || object[key].is_null() || object[key] == "" || object[key] == false;
    }
    static bool flag(Json const& object, char const* key) {
        return object.contains(key) && object[key] == true;
    }
    static std::string type_of(Json const& node) {
        return node.is_object() && node.contains("type") && node["type"].is_string()
                   ? node["type"].get<std::string>()
                   : "";
    }

    std::int64_t id_of(Json const& id, std::string const& token) const {
        want(id.is_number_unsigned() && id.get<std::uint64_t>() < most_ids_,
             fmt::format("the id of {} is {}, not a number below {}", token, id.dump(), most_ids_));
        return id.get<std::int64_t>();
    }

    /// Takes the place of an id, which must be free.
    std::string& place(std::int64_t id, std::string const& token) {
        auto const n = static_cast<std::size_t>(id);
        if (n >= taken_.size()) taken_.resize(n + 1), pairs_.tokens.resize(n + 1);
        want(!taken_[n], fmt::format("the id {} is given twice, to {} too", id, token));
        taken_[n] = true;
        return pairs_.tokens[n];
    }

    void read_model() {
        auto const& model = root_["model"];
        want(type_of(model) == "BPE" || (model.is_object() && !model.contains("type")),
             fmt::format("its model is {}, only BPE is read", type_of(model)));
        want(is_nothing(root_, "normalizer"),
             fmt::format("its normalizer {} is not read", type_of(root_["normalizer"])));
        for (auto const* key :
             {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"})
            want(is_nothing(model, key), fmt::format("its model has {}, which is not read", key));
        want(model.contains("vocab") && model["vocab"].is_object(), "it has no model.vocab");
        want(model.contains("merges") && model["merges"].is_array(), "it has no model.merges");
        want(model["vocab"].size() < most_tokens, "its vocabulary is too large");
        // Some vocabularies have holes, but a file must not ask for more memory than its own size accounts
        // for.
        most_ids_ = 2 * (model["vocab"].size() + added_tokens().size()) + 1024;
        // Special tokens may stand in the vocabulary too; they need not be spelled in bytes.
        for (auto const& added : added_tokens())
            if (added.contains("content") && added["content"].is_string())
                names_.emplace(added["content"].get<std::string>(), 0);
        for (auto const& [token, id] : model["vocab"].items()) {
            if (names_.contains(token)) continue;
            auto bytes = unspelled(token);
            want(bytes && !bytes->empty(),
                 fmt::format("the token {} is not spelled in byte-level letters", token));
            auto const number = id_of(id, token);
            ids_[token] = static_cast<std::uint32_t>(number);
            place(number, token) = std::move(*bytes);
        }
        for (auto const& letter : alphabet())
            want(ids_.contains(letter), fmt::format("the byte spelled {} is no token", letter));
        for (auto const& merge : model["merges"]) read_merge(merge);
    }

    void read_merge(Json const& merge) {
        auto const number = pairs_.merges.size();
        std::string left, right;
        if (merge.is_string()) {
            auto text = merge.get<std::string>();
            auto space = text.find(' ');
            want(space != text.npos, fmt::format("merge {} is not a pair: {}", number, text));
            left = text.substr(0, space), right = text.substr(space + 1);
        } else {
            want(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(),
                 fmt::format("merge {} is not a pair: {}", number, merge.dump().substr(0, 100)));
            left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
        }
        auto known = [&](std::string const& token) {
            auto it = ids_.find(token);
            want(it != ids_.end(),
                 fmt::format("merge {} ({} {}) needs {}, which is no token", number, left, right, token));
            return it->second;
        };
        auto const l = known(left), r = known(right);
        pairs_.merges.push_back({l, r, known(left + right)});
    }

    Json const& added_tokens() const {
        static Json const none = Json::array();
        if (!root_.contains("added_tokens") || root_["added_tokens"].is_null()) return none;
        want(root_["added_tokens"].is_array(), "its added_tokens are not a list");
        return root_["added_tokens"];
    }

    void read_added() {
        for (auto const& added : added_tokens()) {
            want(added.is_object() && added.contains("content") && added["content"].is_string() &&
                     added.contains("id") && !added["content"].get<std::string>().empty(),
                 "an added token has no content or no id");
            auto name = added["content"].get<std::string>();
            for (auto const* key : {"single_word", "lstrip", "rstrip"})
                want(!flag(added, key),
                     fmt::format("the added token {} has {}, which is not read", name, key));
            auto const id = id_of(added["id"], name);
            if (auto const& vocab = root_["model"]["vocab"]; vocab.contains(name))
                want(vocab[name] == id, fmt::format("the added token {} has two ids", name));
            place(id, name);
            specials_.push_back({std::move(name), static_cast<std::uint32_t>(id)});
        }
    }

    /// Of a Split and a ByteLevel after it, or of a ByteLevel alone, which has GPT-2's.
    std::string pattern() const {
        want(root_.contains("pre_tokenizer"), "it has no pre_tokenizer");
        auto const& node = root_["pre_tokenizer"];
        auto byte_level = [&](Json const& n, bool splits) {
            bool const by_pattern = !n.contains("use_regex") || n["use_regex"] == true;
            return type_of(n) == "ByteLevel" && flag(n, "add_prefix_space") == false && by_pattern == splits;
        };
        if (byte_level(node, true)) return std::string(gpt2_pattern);
        auto const list =
            type_of(node) == "Sequence" && node.contains("pretokenizers") ? node["pretokenizers"] : Json();
        bool const known = list.is_array() && list.size() == 2 && type_of(list[0]) == "Split" &&
                           list[0].contains("pattern") && list[0]["pattern"].contains("Regex") &&
                           list[0]["pattern"]["Regex"].is_string() && !flag(list[0], "invert") &&
                           list[0].contains("behavior") && list[0]["behavior"] == "Isolated" &&
                           byte_level(list[1], false);
        want(known,
             "its pre_tokenizer is neither ByteLevel nor a Split by Regex (Isolated) and ByteLevel, without "
             "add_prefix_space");
        return list[0]["pattern"]["Regex"].get<std::string>();
    }

    std::string file_;
    Json root_;
    std::uint64_t most_ids_ = 0;
    BytePairs pairs_;
    std::vector<bool> taken_;
    std::unordered_map<std::string, std::uint32_t> ids_, names_;
    std::vector<Tokenizer::Special> specials_;
};

}  // namespace

Tokenizer Tokenizer::load(std::filesystem::path const& file) {
    JsonReader reader(file);
    auto parts = reader.parts();
    try {
        return Tokenizer(std::move(parts));
    } catch (Error const& e) {
        reader.want(false, e.what());
        throw;
    }
}

std::string Tokenizer::json() const {
    auto vocab = Ordered::object();
    auto& entries = vocab.get_ref<Ordered::object_t&>();
    auto const& tokens = pairs().tokens;
    // push_back, as ordered_json looks a key up by a walk over all.
    for (std::size_t id = 0; id < tokens.size(); ++id)
        if (!tokens[id].empty()) entries.push_back({spelled(tokens[id]), id});
    auto merges = Ordered::array();
    for (auto const& m : pairs().merges)
        merges.push_back(spelled(tokens[m.left]) + " " + spelled(tokens[m.right]));
    auto added = Ordered::array();
    for (auto const& s : specials()) {
        entries.push_back({s.name, s.id});
        added.push_back({{"id", s.id},
                         {"content", s.name},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", true}});
    }
    Ordered split{{"type", "Split"},
                  {"pattern", {{"Regex", splitter().pattern()}}},
                  {"behavior", "Isolated"},
                  {"invert", false}};
    Ordered bytes{
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
    Ordered root{{"version", "1.0"},
                 {"truncation", nullptr},
                 {"padding", nullptr},
                 {"added_tokens", added},
                 {"normalizer", nullptr},
                 {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Ordered::array({split, bytes})}}},
                 {"post_processor", nullptr},
                 {"decoder", bytes},
                 {"model",
                  {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", whole_pieces()},
                   {"vocab", std::move(vocab)},
                   {"merges", std::move(merges)}}}};
    return root.dump(2) + "\n";
}

}  // namespace plait

#endif
