#pragma once

#include "plait/graph/pass.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"

#include <map>
#include <tuple>
#include <typeindex>

namespace plait {

PLAIT_INLINE Value Rewriter::mapped(Value const& v) {
    if (source_of(*v.node)) return v;
    if (!map_.contains(v)) rewrite_node(v.node);
    return map_.at(v);
}

PLAIT_INLINE std::vector<Value> Rewriter::mapped(std::vector<Value> const& values) {
    std::vector<Value> result;
    for (auto const& v : values) result.push_back(mapped(v));
    return result;
}

PLAIT_INLINE std::vector<Value> Rewriter::keep(Node const& node) {
    return values_of(record(node.op, mapped(node.inputs)));
}

PLAIT_INLINE void Rewriter::rewrite_node(std::shared_ptr<Node const> const& node) {
    OriginScope origin(node->origin);
    auto outputs = replace_(*node, *this);
    if (outputs.empty()) outputs = keep(*node);
    check(outputs.size() == node->outputs.size(), "a pass replaced {} by {} values, not {}", node->op.name(),
          outputs.size(), node->outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i)
        map_[{node, static_cast<int>(i)}] = std::move(outputs[i]);
}

PLAIT_INLINE Graph Rewriter::run() {
    for (auto const& node : graph_.nodes)
        if (!source_of(*node) && !map_.contains({node, 0})) rewrite_node(node);
    auto outputs = graph_.outputs;
    for (auto& o : outputs) o.value = mapped(o.value);
    auto updates = graph_.updates;
    for (auto& u : updates) u.value = mapped(u.value);
    auto marks = graph_.marks;
    for (auto& m : marks) m.value = mapped(m.value);
    return Graph::of(std::move(outputs), std::move(updates), std::move(marks));
}

PLAIT_INLINE bool detail::infers(AnyOp const& op, Metas const& in) {
    try {
        op.infer(in);
        return true;
    } catch (ShapeError const&) {
        return false;
    }
}

PLAIT_INLINE Readers readers_of(Graph const& graph) {
    Readers readers;
    for (auto const& n : graph.nodes)
        for (auto const& v : n->inputs) readers[v].push_back(n.get());
    for (auto const& o : graph.outputs) readers[o.value].push_back(nullptr);
    for (auto const& u : graph.updates) readers[u.value].push_back(nullptr);
    return readers;
}

PLAIT_INLINE Graph merge_common(Graph const& graph, bool across_modules) {
    using Key = std::tuple<std::type_index, std::string, std::vector<std::pair<Node const*, int>>, Phase,
                           bool, std::string>;
    std::map<Key, std::vector<Value>> known;
    return rewrite(graph, [&](Node const& node, Rewriter& r) {
        Key key{node.op.type(),    node.op.text(),         {},
                node.origin.phase, node.origin.recomputed, across_modules ? "" : node.origin.path};
        for (auto const& v : r.mapped(node.inputs)) std::get<2>(key).emplace_back(v.node.get(), v.output);
        auto [it, fresh] = known.try_emplace(std::move(key));
        if (fresh) it->second = r.keep(node);
        return it->second;
    });
}

}  // namespace plait
