#include "config.hpp"

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>

#include "plait/io/file.hpp"

namespace plait::tools {
namespace {

/// One value on its way into the configuration.
struct Given {
    toml::node const& node;
    std::string where;             // starts error messages: "tiny.toml:3" or "--model.dim=x"
    std::string origin;            // "tiny.toml:3" or "command line"
    std::string const* bare = {};  // the text as typed, on the command line
};

/// "the string \"64\""
std::string described(toml::node const& node) {
    if (auto const* v = node.as_string()) return "the string " + value_text(v->get());
    if (auto const* v = node.as_integer()) return fmt::format("the integer {}", v->get());
    if (auto const* v = node.as_floating_point()) return fmt::format("the number {}", v->get());
    if (auto const* v = node.as_boolean()) return v->get() ? "true" : "false";
    if (node.is_array()) return "a list";
    if (node.is_table()) return "a table";
    return "a date or time";
}

[[noreturn]] void ill_typed(Given const& given, std::string const& key, std::string_view wanted) {
    fail<UsageError>("{}: {} wants {}, got {}", given.where, key, wanted, described(given.node));
}

void assign(Given const& given, std::string const& key, bool& value) {
    if (!given.node.is_boolean()) ill_typed(given, key, "true or false");
    value = given.node.as_boolean()->get();
}

void assign(Given const& given, std::string const& key, std::int64_t& value) {
    if (!given.node.is_integer()) ill_typed(given, key, "an integer");
    value = given.node.as_integer()->get();
}

void assign(Given const& given, std::string const& key, double& value) {
    if (auto const* whole = given.node.as_integer()) value = static_cast<double>(whole->get());
    else if (auto const* real = given.node.as_floating_point(); real && std::isfinite(real->get()))
        value = real->get();
    else ill_typed(given, key, "a finite number");
}

void assign(Given const& given, std::string const& key, std::string& value) {
    // On the command line 1f1b, 12 and 2024-01-01 are words where a string is wanted.
    if (given.node.is_string()) value = given.node.as_string()->get();
    else if (given.bare && !given.node.is_array() && !given.node.is_table()) value = *given.bare;
    else ill_typed(given, key, "a string");
}

void assign(Given const& given, std::string const& key, std::vector<std::string>& value) {
    value.clear();
    auto const* list = given.node.as_array();
    if (!list) {
        if (!given.node.is_string() && !given.bare) ill_typed(given, key, "a string or a list of strings");
        assign(given, key, value.emplace_back());
        return;
    }
    for (auto const& item : *list) {
        if (!item.is_string())
            fail<UsageError>("{}: {} wants a list of strings, one is {}", given.where, key, described(item));
        value.push_back(item.as_string()->get());
    }
}

void assign(Given const& given, std::string const& key, Globs& value) {
    std::vector<std::string> strings;
    assign(given, key, strings);
    value.list.clear();
    for (auto const& text : strings) {
        std::string glob;
        int open = 0;
        auto take = [&] {
            if (!glob.empty()) value.list.push_back(std::exchange(glob, ""));
        };
        for (char c : text) {
            open += (c == '{') - (c == '}');
            if (c == ',' && open == 0) take();
            else if (c != ' ') glob += c;
        }
        take();
    }
}

void assign(Given const& given, std::string const& key, Validation& value) {
    value = {0, ""};
    if (given.node.is_number()) assign(given, key, value.fraction);
    else if (given.node.is_string()) assign(given, key, value.path);
    else ill_typed(given, key, "a part of the text such as 0.05, or a path");
}

std::vector<std::string> known_keys() {
    std::vector<std::string> keys;
    Config config;
    for_each_key(config, [&](std::string const& key, auto&) { keys.push_back(key); });
    return keys;
}

class ConfigReader {
  public:
    explicit ConfigReader(Config& config) : config_(config) {}

    /// Takes the value of a key, or a table of values of keys below it.
    void take(std::string const& key, Given const& given) {
        bool const known = contains(key);
        if (!known && (given.node.is_table())) {
            auto const& table = *given.node.as_table();
            check<UsageError>(!table.empty() || is_section(key),
                              "{}: unknown section [{}]: the nearest key is {}", given.where, key,
                              nearest_key(key));
            for (auto const& [name, node] : table) take(key + "." + std::string(name.str()), at(given, node));
            return;
        }
        check<UsageError>(known || !is_section(key), "{}: {} is a section: set one of its keys, such as {}",
                          given.where, key, nearest_key(key));
        check<UsageError>(known, "{}: unknown key {}: the nearest is {}", given.where, key, nearest_key(key));
        for_each_key(config_, [&](std::string const& name, auto& value) {
            if (name != key) return;
            assign(given, key, value);
            config_.origins[key] = given.origin;
        });
    }

    void take_file(toml::table const& table, std::string const& file) {
        for (auto const& [name, node] : table) {
            auto where = fmt::format("{}:{}", file, node.source().begin.line);
            take(std::string(name.str()), {node, where, where, nullptr});
        }
    }

    void take_override(Override const& given) {
        auto where = given.flag + "=" + given.text;
        auto table = value_of(given.text);
        take(given.key, {*table.get("value"), where, "command line", &given.text});
    }

  private:
    /// The given value for a node inside its table.
    static Given at(Given const& given, toml::node const& node) {
        if (given.bare) return {node, given.where, given.origin, nullptr};
        auto where =
            given.where.substr(0, given.where.rfind(':') + 1) + std::to_string(node.source().begin.line);
        return {node, where, where, nullptr};
    }

    /// A table whose `value` is the text read as TOML, or else as a string.
    static toml::table value_of(std::string const& text) {
        try {
            // Alone in the text, so that no line break smuggles in another key.
            auto table = toml::parse("value = " + text);
            if (table.size() == 1 && table.contains("value") && text.find('\n') == std::string::npos)
                return table;
        } catch (toml::parse_error const&) {}
        return toml::table{{"value", text}};
    }

    bool contains(std::string const& key) const {
        return std::find(keys_.begin(), keys_.end(), key) != keys_.end();
    }
    bool is_section(std::string const& key) const {
        return std::any_of(keys_.begin(), keys_.end(), [&](auto& k) { return k.starts_with(key + "."); });
    }
    std::string nearest_key(std::string const& key) const {
        if (is_section(key))
            return *std::find_if(keys_.begin(), keys_.end(),
                                 [&](auto& k) { return k.starts_with(key + "."); });
        if (key.find('.') != std::string::npos) return nearest_name(key, keys_);
        // A key without its section: compare with the names that keys end in.
        std::vector<std::string> names;
        for (auto const& k : keys_) names.push_back(k.substr(k.rfind('.') + 1));
        auto name = nearest_name(key, names);
        return keys_[static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin())];
    }

    Config& config_;
    std::vector<std::string> keys_ = known_keys();
};

}  // namespace

Config parse_config(std::string_view text, std::string const& name, std::vector<Override> const& overrides) {
    Config config;
    for (auto const& key : known_keys()) config.origins[key] = "default";
    ConfigReader reader(config);
    try {
        reader.take_file(toml::parse(text, name), name);
    } catch (toml::parse_error const& e) {
        std::string what(e.description());
        std::replace(what.begin(), what.end(), '\n', ' ');
        fail<UsageError>("{}:{}: {}", name, e.source().begin.line, what.substr(0, 300));
    }
    for (auto const& o : overrides) reader.take_override(o);
    if (config.origins["model.tied"] == "default" && config.model.family == "gpt2") {
        config.model.tied = true;
        config.origins["model.tied"] = "default of gpt2";
    }
    return config;
}

Config load_config(std::string const& file, std::vector<Override> const& overrides) {
    if (file.empty()) return parse_config("", "", overrides);
    std::string text;
    try {
        text = read_file(file);
    } catch (Error const& e) {
        throw UsageError(fmt::format("--config={}: {}", file, e.what()));
    }
    return parse_config(text, file, overrides);
}

}  // namespace plait::tools
