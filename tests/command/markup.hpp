#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

/// What is wrong with a page written as XML, or "" when nothing is: each element is closed in its order, each
/// attribute has quotes and stands once, and no bare < or & is in a text.
inline std::string markup_fault(std::string_view page) {
    auto const all = page;
    std::vector<std::string> open;
    auto fault = [&](std::string const& what) {
        auto line = std::count(all.begin(), all.begin() + (page.data() - all.data()), '\n') + 1;
        return "line " + std::to_string(line) + ": " + what;
    };
    constexpr std::string_view doctype = "<!DOCTYPE html>\n";
    if (!page.starts_with(doctype)) return fault("no doctype");
    page.remove_prefix(doctype.size());
    while (!page.empty()) {
        auto const text = page.substr(0, page.find('<'));
        for (std::size_t at = text.find('&'); at != text.npos; at = text.find('&', at + 1)) {
            auto const name = text.substr(at + 1, text.find(';', at) - at - 1);
            if (name != "lt" && name != "gt" && name != "amp" && name != "quot") return fault("a bare &");
        }
        if (open.empty() && text.find_first_not_of(" \n") != text.npos) return fault("text outside");
        page.remove_prefix(text.size());
        if (page.empty()) break;
        // No value of an attribute of ours holds a > as it stands.
        auto const end = page.find('>');
        if (end == page.npos) return fault("a bare <");
        auto tag = page.substr(1, end - 1);
        if (tag.starts_with('/')) {
            if (open.empty() || open.back() != tag.substr(1))
                return fault("</" + std::string(tag.substr(1)) + ">");
            open.pop_back();
            page.remove_prefix(end + 1);
            continue;
        }
        bool const closed = tag.ends_with('/');
        if (closed) tag.remove_suffix(1);
        auto const name = tag.substr(0, tag.find(' '));
        if (name.empty() ||
            !std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c); }))
            return fault("a bare <");
        std::vector<std::string_view> attributes;
        for (auto rest = tag.substr(name.size()); !rest.empty();) {
            auto const equal = rest.find("=\"");
            if (rest[0] != ' ' || equal == rest.npos) return fault("an attribute without quotes");
            attributes.push_back(rest.substr(1, equal - 1));
            auto const quote = rest.find('"', equal + 2);
            if (quote == rest.npos) return fault("an open quote");
            rest.remove_prefix(quote + 1);
        }
        std::sort(attributes.begin(), attributes.end());
        if (std::adjacent_find(attributes.begin(), attributes.end()) != attributes.end())
            return fault("an attribute twice");
        if (!closed) open.emplace_back(name);
        page.remove_prefix(end + 1);
    }
    return open.empty() ? "" : fault("<" + open.back() + "> is never closed");
}
