#pragma once

#include "plait/graph/pass.hpp"
#include "plait/graph/source.hpp"
#include "plait/passes/lower.hpp"
#include "plait/tensor.hpp"

#include <algorithm>

namespace plait {

PLAIT_INLINE Graph expand_definitions(Graph const& graph,
                                      std::function<bool(std::string_view)> const& has_kernel) {
    auto missing = [&](Node const& n) { return !source_of(n) && !has_kernel(n.op.name()); };
    Graph g = graph;
    while (std::any_of(g.nodes.begin(), g.nodes.end(), [&](auto const& n) { return missing(*n); }))
        g = expand_nodes(g, missing);
    return g;
}

PLAIT_INLINE Graph expand_nodes(Graph const& graph, std::function<bool(Node const& node)> const& chosen) {
    return rewrite(graph, [&](Node const& node, Rewriter& r) -> std::vector<Value> {
        if (!chosen(node)) return {};
        check(node.op.has_define(),
              "the backend has no kernel for {}, and it has no definition in simpler ops", node.op.name());
        Tensors x;
        for (auto const& v : r.mapped(node.inputs)) x.emplace_back(v);
        std::vector<Value> outputs;
        for (auto const& t : node.op.define(x)) outputs.push_back(t.value());
        return outputs;
    });
}

}  // namespace plait
