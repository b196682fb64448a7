#pragma once

#include "plait/graph/rule.hpp"

#include <cstdint>

namespace tests {

using namespace plait;

/// The block [start, start + length) of factor `factor`: which elements of an operand belong to it.
struct Split {
    Rule const& rule;
    int factor;
    std::int64_t start, length;

    /// Whether the element at `index` lies in the block; `local` is then its place there.
    bool holds(Rule::Operand const& operand, Shape const& index, Shape& local) const {
        local = index;
        for (std::size_t d = 0; d < operand.size(); ++d) {
            std::int64_t rest = index[static_cast<int>(d)], inner = 1, place = 0;
            for (auto f = operand[d].rbegin(); f != operand[d].rend(); ++f) {
                auto size = rule.factors[static_cast<std::size_t>(*f)].size;
                auto i = rest % size;
                rest /= size;
                if (*f == factor) {
                    if (i < start || i >= start + length) return false;
                    i -= start, size = length;
                }
                place += i * inner;
                inner *= size;
            }
            if (!operand[d].empty()) local[static_cast<int>(d)] = place;
        }
        return true;
    }
    Meta local(Rule::Operand const& operand, Meta m) const {
        for (std::size_t d = 0; d < operand.size(); ++d)
            for (int f : operand[d])
                if (f == factor)
                    m.shape[static_cast<int>(d)] = m.shape[static_cast<int>(d)] /
                                                   rule.factors[static_cast<std::size_t>(f)].size * length;
        return m;
    }
    /// Where the block lies in a whole of shape `whole`. Only of factors that may be cut.
    Placement placement(Rule::Operand const& operand, Shape const& whole) const {
        Placement at;
        for (std::size_t d = 0; d < operand.size(); ++d) {
            bool cut = !operand[d].empty() && operand[d].front() == factor;
            auto size = rule.factors[static_cast<std::size_t>(factor)].size;
            at.origin.push_back(cut ? whole[static_cast<int>(d)] / size * start : 0);
        }
        if (Rule::holds(operand, factor)) at.logical = whole;
        else at.origin = {};
        return at;
    }
};

}  // namespace tests
