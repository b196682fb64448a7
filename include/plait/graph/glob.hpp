#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace plait {
namespace detail {

/// Whether `items` match `glob`, whose elements for which `star` holds stand for any run of items. Only the
/// last star is ever lengthened, which is enough and takes no more than size times size steps.
template <class Glob, class Items, class Star, class Same>
bool wildcard_matches(Glob const& glob, Items const& items, Star star, Same same) {
    std::size_t g = 0, i = 0, last = glob.size(), taken = 0;
    while (i < items.size()) {
        if (g < glob.size() && star(glob[g])) last = g++, taken = i;
        else if (g < glob.size() && same(glob[g], items[i])) ++g, ++i;
        else if (last < glob.size()) g = last + 1, i = ++taken;
        else return false;
    }
    while (g < glob.size() && star(glob[g])) ++g;
    return g == glob.size();
}

/// The names between the dots; an empty path has none.
inline std::vector<std::string_view> names_of(std::string_view path) {
    std::vector<std::string_view> names;
    while (!path.empty()) {
        auto dot = path.find('.');
        names.push_back(path.substr(0, dot));
        path.remove_prefix(dot == std::string_view::npos ? path.size() : dot + 1);
    }
    return names;
}

/// "blocks.3" of "blocks.3.mlp.up"; the first name of a path without numbers.
inline std::string_view unit_of(std::string_view path) {
    for (std::size_t start = 0, end = 0; end < path.size(); start = end + 1) {
        end = std::min(path.find('.', start), path.size());
        if (end > start && path[start] >= '0' && path[start] <= '9') return path.substr(0, end);
    }
    return path.substr(0, path.find('.'));
}

/// The shortest leading part of a path, in whole names, for which `holds(part)` is true; empty where none is.
template <class F>
std::string_view shortest_part(std::string_view path, F const& holds) {
    for (std::size_t end = 0; end < path.size();) {
        end = std::min(path.find('.', end + 1), path.size());
        if (holds(path.substr(0, end))) return path.substr(0, end);
    }
    return {};
}

inline bool name_matches(std::string_view glob, std::string_view name) {
    return wildcard_matches(
        glob, name, [](char g) { return g == '*'; }, [](char g, char n) { return g == n; });
}

}  // namespace detail

/// Whether `path` ("blocks.3.mlp.gate.weight") matches `glob`: `*` stands for any characters within one
/// dotted name,
/// `**` for any number of whole names (none too), `{a,b}` for one of the alternatives, which may hold all of
/// these.
inline bool glob_matches(std::string_view glob, std::string_view path) {
    auto close = glob.find('}'), open = glob.rfind('{', close);
    if (close == std::string_view::npos && open == std::string_view::npos)
        return detail::wildcard_matches(
            detail::names_of(glob), detail::names_of(path), [](std::string_view g) { return g == "**"; },
            detail::name_matches);
    if (close == std::string_view::npos || open == std::string_view::npos) return false;
    auto choices = glob.substr(open + 1, close - open - 1);
    while (true) {
        auto comma = choices.find(',');
        std::string one(glob.substr(0, open));
        one += choices.substr(0, comma);
        one += glob.substr(close + 1);
        if (glob_matches(one, path)) return true;
        if (comma == std::string_view::npos) return false;
        choices.remove_prefix(comma + 1);
    }
}

}  // namespace plait
