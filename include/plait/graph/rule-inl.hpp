#pragma once

#include "plait/graph/rule.hpp"

#include <algorithm>

namespace plait {
namespace detail {

inline std::vector<std::string_view> split_list(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (true) {
        std::size_t cut = text.find(separator);
        auto part = text.substr(0, cut);
        while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
        while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
        if (!part.empty() || separator != ' ') parts.push_back(part);
        if (cut == std::string_view::npos) return parts;
        text.remove_prefix(cut + 1);
    }
}

inline bool leading(std::string_view word) { return word == "..." || word == "!..."; }

/// Words of one operand; "(h g)" stays one word.
inline std::vector<std::string> operand_words(std::string_view text) {
    std::vector<std::string> words;
    bool open = false;
    for (auto w : split_list(text, ' ')) {
        if (open) words.back() += " " + std::string(w);
        else words.emplace_back(w);
        if (w.front() == '(') open = true;
        if (w.back() == ')') open = false;
    }
    return words;
}

struct RuleReader {
    std::string_view op, spec;
    Metas const& in;
    Rule rule;
    int ellipsis = -1;                // leading dims that `...` stands for
    std::vector<std::string> origin;  // where each factor's size was read

    [[noreturn]] void clash(std::string const& why) const {
        fail<ShapeError>("{}({}): {} (expects {})", op, to_string(in), why, spec);
    }

    int factor(std::string_view word) {
        bool whole = word.front() == '!';
        if (whole) word.remove_prefix(1);
        for (std::size_t i = 0; i < rule.factors.size(); ++i)
            if (rule.factors[i].name == word) {
                rule.factors[i].whole = rule.factors[i].whole || whole;
                return static_cast<int>(i);
            }
        rule.factors.push_back({std::string(word), 0, whole});
        origin.emplace_back();
        return static_cast<int>(rule.factors.size()) - 1;
    }

    Rule::Dim dim(std::string_view word) {
        if (word == "1") return {};
        if (word.front() != '(') return {factor(word)};
        Rule::Dim d;
        for (auto w : split_list(word.substr(1, word.size() - 2), ' ')) d.push_back(factor(w));
        return d;
    }

    /// `rank` is the operand's number of dims, or -1 for an output, whose `...` is as long as the inputs'.
    Rule::Operand operand(std::string_view text, int rank) {
        Rule::Operand dims;
        auto words = operand_words(text);
        int named =
            static_cast<int>(std::count_if(words.begin(), words.end(), [](auto& w) { return !leading(w); }));
        for (auto const& w : words) {
            if (!leading(w)) {
                dims.push_back(dim(w));
                continue;
            }
            int length = rank < 0 ? std::max(ellipsis, 0) : rank - named;
            for (int i = 0; i < length; ++i)
                dims.push_back(dim((w[0] == '!' ? "!" : "") + ("." + std::to_string(ellipsis - length + i))));
        }
        return dims;
    }

    void size(int factor, std::int64_t value, std::string where) {
        auto f = static_cast<std::size_t>(factor);
        if (origin[f].empty()) {
            rule.factors[f].size = value;
            origin[f] = std::move(where);
        } else if (rule.factors[f].size != value) {
            clash(fmt::format("{} has size {} but {} has size {}", where, value, origin[f],
                              rule.factors[f].size));
        }
    }

    void sizes() {
        for (bool again = true, any = true; again && any;) {
            again = any = false;
            for (std::size_t i = 0; i < in.size(); ++i)
                for (std::size_t d = 0; d < rule.inputs[i].size(); ++d) {
                    auto const& factors = rule.inputs[i][d];
                    auto value = in[i].shape[static_cast<int>(d)];
                    auto where = fmt::format("dim {} of input {}", d, i);
                    std::int64_t known = 1;
                    int unknown = -1, unknowns = 0;
                    for (int f : factors)
                        if (origin[static_cast<std::size_t>(f)].empty()) unknown = f, ++unknowns;
                        else known *= rule.factors[static_cast<std::size_t>(f)].size;
                    if (unknowns > 1) {
                        again = true;
                    } else if (unknowns == 1) {
                        if (known == 0 || value % known)
                            clash(
                                fmt::format("{} has size {}, which {} does not divide", where, value, known));
                        size(unknown, value / known, where);
                        any = true;
                    } else if (factors.size() == 1) {
                        size(factors[0], value, where);
                    } else if (known != value) {
                        clash(fmt::format("{} has size {}, not {}", where, value, known));
                    }
                }
        }
    }

    Rule read() {
        auto arrow = spec.find("->");
        auto lhs = split_list(spec.substr(0, arrow), ',');
        if (lhs.size() == 1 && lhs[0].empty()) lhs.clear();
        if (lhs.size() != in.size()) clash(fmt::format("has {} inputs, not {}", in.size(), lhs.size()));
        rule.like.assign(in.size(), false);
        for (std::size_t i = 0; i < lhs.size(); ++i) {
            if (!lhs[i].empty() && lhs[i].front() == '~') {
                rule.like[i] = true;
                lhs[i].remove_prefix(1);
            }
            auto words = operand_words(lhs[i]);
            int rank = in[i].shape.rank(), named = 0;
            bool open = false;
            for (auto const& w : words) leading(w) ? void(open = true) : void(++named);
            if (open ? rank < named : rank != named)
                clash(fmt::format("input {} has {} dims, not {}{}", i, rank, open ? "at least " : "", named));
            if (open && ellipsis >= 0 && rank - named != ellipsis)
                clash(fmt::format("input {} has {} dims, not {}", i, rank, named + ellipsis));
            if (open) ellipsis = rank - named;
        }
        for (std::size_t i = 0; i < lhs.size(); ++i)
            rule.inputs.push_back(operand(lhs[i], in[i].shape.rank()));
        for (auto out : split_list(spec.substr(arrow + 2), ',')) rule.outputs.push_back(operand(out, -1));
        sizes();
        return std::move(rule);
    }
};

}  // namespace detail

PLAIT_INLINE bool Rule::holds(Operand const& operand, int factor) {
    return std::any_of(operand.begin(), operand.end(),
                       [&](Dim const& d) { return std::find(d.begin(), d.end(), factor) != d.end(); });
}

PLAIT_INLINE int Rule::outer_dim(Operand const& operand, int factor) {
    for (std::size_t d = 0; d < operand.size(); ++d)
        if (!operand[d].empty() && operand[d].front() == factor) return static_cast<int>(d);
    return -1;
}

PLAIT_INLINE bool Rule::may_cut(int factor) const {
    if (factors[static_cast<std::size_t>(factor)].whole) return false;
    for (auto const* side : {&inputs, &outputs})
        for (auto const& operand : *side)
            if (holds(operand, factor) && outer_dim(operand, factor) < 0) return false;
    return true;
}

PLAIT_INLINE Shape Rule::output_shape(int output) const {
    Shape shape;
    for (auto const& d : outputs.at(static_cast<std::size_t>(output))) {
        std::int64_t size = 1;
        for (int f : d) size *= factors[static_cast<std::size_t>(f)].size;
        shape.push_back(size);
    }
    return shape;
}

PLAIT_INLINE Rule parse_rule(std::string_view op, std::string_view spec, Metas const& in) {
    return detail::RuleReader{op, spec, in, {}, -1, {}}.read();
}

}  // namespace plait
