#pragma once

#include "plait/graph/parts.hpp"
#include "plait/graph/pass.hpp"
#include "plait/ops/attention.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/view.hpp"
#include "plait/passes/grouped_heads.hpp"

#include <numeric>
#include <unordered_set>

namespace plait {
namespace detail {

/// How many kv heads divide, or 0 where nothing is to be done.
inline std::int64_t spread_heads(Node const& n, std::int64_t ways) {
    if (!n.op.as<Attention>() && !n.op.as<AttentionGradient>()) return 0;
    auto heads = n.inputs[0].meta().shape[2], kv = n.inputs[1].meta().shape[2];
    auto spread = std::lcm(kv, ways);
    return spread == kv || heads % spread ? 0 : spread;
}

/// The reshape that made heads of a projection's output, behind a rotation.
inline Node const* head_reshape(Value v) {
    while (v.node->op.as<Rope>() || v.node->op.as<Cast>()) v = v.node->inputs[0];
    return v.node->op.as<Reshape>() ? v.node.get() : nullptr;
}

}  // namespace detail

PLAIT_INLINE Graph spread_grouped_heads(Graph const& graph, std::int64_t ways) {
    std::unordered_set<Node const*> reshapes;
    for (auto const& n : graph.nodes)
        if (detail::spread_heads(*n, ways))
            for (int i : {1, 2})
                reshapes.insert(detail::head_reshape(n->inputs[static_cast<std::size_t>(i)]));
    reshapes.erase(nullptr);
    auto whole = [](Value const& v, int dim) { return Tensor(Value{record(Whole{dim}, {v}), 0}); };
    return rewrite(graph, [&](Node const& node, Rewriter& r) -> std::vector<Value> {
        auto in = r.mapped(node.inputs);
        if (reshapes.contains(&node))
            return values_of(record(node.op, {whole(in[0], in[0].meta().shape.rank() - 1).value()}));
        auto spread = detail::spread_heads(node, ways);
        if (!spread) return {};
        for (std::size_t i : {1, 2}) in[i] = detail::repeat_heads(whole(in[i], 2), spread).value();
        auto made = values_of(record(node.op, in));
        if (node.op.as<AttentionGradient>())
            for (std::size_t i : {1, 2})
                made[i] = detail::sum_heads(whole(made[i], 2), node.outputs[i]).value();
        return made;
    });
}

}  // namespace plait
