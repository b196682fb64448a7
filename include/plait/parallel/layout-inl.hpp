#pragma once

#include "plait/parallel/layout.hpp"

#include <algorithm>

namespace plait {
namespace detail {

/// The dim of `operand` whose outermost factor is `factor`, or -1.
inline int outer_dim(Rule::Operand const& operand, int factor) {
    for (std::size_t d = 0; d < operand.size(); ++d)
        if (!operand[d].empty() && operand[d].front() == factor) return static_cast<int>(d);
    return -1;
}

/// Whether an axis of `size` can cut `factor`: not marked whole, divisible, and outermost wherever it occurs.
inline bool can_cut(Rule const& rule, int factor, std::int64_t size) {
    auto const& f = rule.factors[static_cast<std::size_t>(factor)];
    if (f.whole || f.size % size) return false;
    for (auto const* side : {&rule.inputs, &rule.outputs})
        for (auto const& operand : *side)
            if (Rule::holds(operand, factor) && outer_dim(operand, factor) < 0) return false;
    // Blocks come together by sums only.
    bool kept = std::all_of(rule.outputs.begin(), rule.outputs.end(),
                            [&](auto const& operand) { return Rule::holds(operand, factor); });
    return kept || rule.combine != Combine::max;
}

}  // namespace detail

PLAIT_INLINE std::string to_string(AxisLayout const& layout) {
    if (layout.is_shard()) return "shard(" + std::to_string(layout.dim) + ")";
    return layout.is_partial() ? "partial(sum)" : "replicate";
}

PLAIT_INLINE NodeLayout choose(Node const& node, std::vector<AxisLayout> const& inputs, std::int64_t size) {
    Metas in;
    for (auto const& v : node.inputs) in.push_back(v.meta());
    Rule rule = node.op.rule(in);
    NodeLayout layout{-1, std::vector<AxisLayout>(inputs.size()),
                      std::vector<AxisLayout>(node.outputs.size())};
    for (std::size_t i = 0; i < inputs.size() && layout.factor < 0; ++i) {
        if (!inputs[i].is_shard()) continue;
        auto const& dim = rule.inputs[i][static_cast<std::size_t>(inputs[i].dim)];
        if (!dim.empty() && detail::can_cut(rule, dim.front(), size)) layout.factor = dim.front();
    }
    if (layout.factor < 0) return layout;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        if (int d = detail::outer_dim(rule.inputs[i], layout.factor); d >= 0)
            layout.inputs[i] = AxisLayout::shard(d);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
        int d = detail::outer_dim(rule.outputs[i], layout.factor);
        layout.outputs[i] = d >= 0 ? AxisLayout::shard(d) : AxisLayout::partial();
    }
    return layout;
}

}  // namespace plait
