#pragma once

#include "plait/parallel/wishes.hpp"

#include <algorithm>

namespace plait {
namespace detail {

/// Whether every factor of every input is in the output: nothing is summed for it, so blocks go through. An
/// operand that is read whole whatever block is made (a random key) does not count.
inline bool goes_through(Rule const& rule, Rule::Operand const& output) {
    if (rule.by_shape) return false;
    for (auto const& in : rule.inputs) {
        bool all = true, apart = true;
        for (auto const& dim : in)
            for (int f : dim) {
                bool const there = Rule::holds(output, f);
                all = all && there;
                apart = apart && !there && rule.factors[static_cast<std::size_t>(f)].whole;
            }
        if (!all && !apart) return false;
    }
    return true;
}

class Wisher {
  public:
    Wisher(ResolvedLines const& lines, Mesh const& mesh) : lines_(lines), mesh_(mesh), wish_(lines.values) {}

    void visit(std::shared_ptr<Node const> const& node) {
        Rule rule = node->op.rule(metas_of(node->inputs));
        if (std::none_of(rule.outputs.begin(), rule.outputs.end(),
                         [&](auto const& o) { return goes_through(rule, o); }))
            return;
        for (std::size_t a = 0; a < mesh_.axes().size(); ++a) {
            auto [factor, from] = wanted(*node, node, rule, a);
            if (factor < 0 || !rule.may_cut(factor)) continue;
            if (rule.factors[static_cast<std::size_t>(factor)].size % mesh_.axes()[a].size) continue;
            for (std::size_t i = 0; i < node->inputs.size(); ++i) {
                auto const& v = node->inputs[i];
                int d = Rule::outer_dim(rule.inputs[i], factor);
                if (d < 0 || source_of(*v.node)) continue;
                auto& layout = wish_.try_emplace(v, Layout(mesh_.axes().size())).first->second;
                if (!layout[a].is_shard()) layout[a] = AxisLayout::shard(d, true, from.line);
            }
        }
    }

    ValueMap<Layout> take() { return std::move(wish_); }

  private:
    /// The factor that an output or a stored variable wishes cut.
    std::pair<int, AxisLayout> wanted(Node const& n, std::shared_ptr<Node const> const& node,
                                      Rule const& rule, std::size_t a) const {
        auto outer = [](Rule::Operand const& operand, int dim) {
            auto const& factors = operand[static_cast<std::size_t>(dim)];
            return factors.empty() ? -1 : factors.front();
        };
        for (std::size_t i = 0; i < n.inputs.size(); ++i) {
            auto const* s = source_of(*n.inputs[i].node);
            auto variable = s ? s->variable.lock() : nullptr;
            auto it = variable ? lines_.variables.find(variable.get()) : lines_.variables.end();
            if (it == lines_.variables.end()) continue;
            if (auto const& l = it->second[a]; l.is_shard() && l.stored)
                return {outer(rule.inputs[i], l.dim), l};
        }
        for (std::size_t o = 0; o < n.outputs.size(); ++o) {
            auto it = wish_.find({node, static_cast<int>(o)});
            if (it == wish_.end() || !goes_through(rule, rule.outputs[o])) continue;
            if (auto const& l = it->second[a]; l.is_shard()) return {outer(rule.outputs[o], l.dim), l};
        }
        return {-1, {}};
    }

    ResolvedLines const& lines_;
    Mesh const& mesh_;
    ValueMap<Layout> wish_;
};

}  // namespace detail

PLAIT_INLINE ValueMap<Layout> wishes(Graph const& graph, ResolvedLines const& lines, Mesh const& mesh) {
    detail::Wisher wisher(lines, mesh);
    for (auto it = graph.nodes.rbegin(); it != graph.nodes.rend(); ++it)
        if (!source_of(**it)) wisher.visit(*it);
    return wisher.take();
}

}  // namespace plait
