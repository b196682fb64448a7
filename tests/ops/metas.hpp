#pragma once

#include "plait/graph/rule.hpp"

#include <string>
#include <string_view>

/// Shapes and rules as text, so that tables of cases read well.
namespace tests {

/// Reads "bf16[2, 3], i32[]".
inline plait::Metas metas(std::string_view text) {
    plait::Metas all;
    while (!text.empty()) {
        auto open = text.find('['), close = text.find(']');
        auto& m = all.emplace_back();
        m.dtype = plait::parse_dtype(text.substr(0, open));
        auto sizes = text.substr(open + 1, close - open - 1);
        while (!sizes.empty()) {
            auto comma = sizes.find(", ");
            m.shape.push_back(std::stoll(std::string(sizes.substr(0, comma))));
            sizes.remove_prefix(comma == std::string_view::npos ? sizes.size() : comma + 2);
        }
        text.remove_prefix(std::min(text.size(), close + 3));
    }
    return all;
}

/// "b:2 (h:2 g:3) !d:4, ~v:5 1 -> b:2": each dim's factors with their sizes, `!` before a whole one.
inline std::string rule_text(plait::Rule const& rule) {
    std::string text;
    auto dim_text = [&](plait::Rule::Dim const& dim) {
        std::string dims;
        for (int f : dim) {
            auto const& factor = rule.factors[static_cast<std::size_t>(f)];
            dims += (dims.empty() ? "" : " ") + std::string(factor.whole ? "!" : "") + factor.name + ":" +
                    std::to_string(factor.size);
        }
        return dim.empty() ? "1" : dim.size() == 1 ? dims : "(" + dims + ")";
    };
    auto operands = [&](std::vector<plait::Rule::Operand> const& all, bool inputs) {
        for (std::size_t i = 0; i < all.size(); ++i) {
            if (i) text += ", ";
            if (inputs && rule.like[i]) text += "~";
            for (std::size_t d = 0; d < all[i].size(); ++d) text += (d ? " " : "") + dim_text(all[i][d]);
        }
    };
    operands(rule.inputs, true);
    text += " -> ";
    operands(rule.outputs, false);
    return text;
}

}  // namespace tests
