#include "config.hpp"

#include <cmath>

namespace plait::tools {

std::string value_text(bool value) { return value ? "true" : "false"; }
std::string value_text(std::int64_t value) { return std::to_string(value); }

std::string value_text(double value) {
    auto text = fmt::format("{}", value);
    // TOML tells 1 from 1.0.
    return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string value_text(std::string const& value) {
    std::string text = "\"";
    for (char c : value) {
        if (c == '"' || c == '\\') text += '\\', text += c;
        else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            text += fmt::format("\\u{:04X}", static_cast<int>(c));
        else text += c;
    }
    return text + "\"";
}

std::string value_text(std::vector<std::string> const& value) {
    std::string text = "[";
    for (auto const& v : value) text += (text.size() > 1 ? ", " : "") + value_text(v);
    return text + "]";
}

std::string value_text(Globs const& value) { return value_text(value.list); }
std::string value_text(Validation const& value) {
    return value.path.empty() ? value_text(value.fraction) : value_text(value.path);
}

std::string config_text(Config const& config) {
    std::string text;
    for_each_field(config, [&](std::string_view section, auto const& values) {
        text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
        for_each_key(values, [&](std::string const& key, auto const& value) {
            auto const& origin = config.origins.find(fmt::format("{}.{}", section, key))->second;
            text += fmt::format("{:<40}  # {}\n", key + " = " + value_text(value), origin);
        });
    });
    return text;
}

}  // namespace plait::tools
