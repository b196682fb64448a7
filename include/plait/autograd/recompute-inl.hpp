#pragma once

#include "plait/autograd/recompute.hpp"
#include "plait/graph/glob.hpp"
#include "plait/graph/pass.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"

#include <algorithm>
#include <set>

namespace plait {
namespace detail {

/// The module that a glob names around `path`: its shortest prefix that matches, or nothing.
inline std::string module_of(std::string_view path, std::vector<std::string> const& globs,
                             std::set<std::string>& used) {
    return std::string(shortest_part(path, [&](std::string_view part) {
        auto g = std::find_if(globs.begin(), globs.end(),
                              [&](auto const& glob) { return glob_matches(glob, part); });
        if (g != globs.end()) used.insert(*g);
        return g != globs.end();
    }));
}

}  // namespace detail

PLAIT_INLINE Graph recompute(Graph const& graph, std::vector<std::string> const& globs) {
    if (globs.empty()) return graph;
    std::unordered_map<Node const*, std::string> module;
    std::set<std::string> used;
    std::set<Node const*>
        varying;  // what hangs on data; the rest is made once a step from weights, so it is kept
    for (auto const& n : graph.nodes) {
        auto const* s = source_of(*n);
        bool varies = s ? s->kind != SourceKind::variable && s->kind != SourceKind::feed
                        : std::any_of(n->inputs.begin(), n->inputs.end(),
                                      [&](Value const& v) { return varying.contains(v.node.get()); });
        if (varies) varying.insert(n.get());
        if (!varies || s || n->origin.phase != Phase::forward) continue;
        auto name = detail::module_of(n->origin.path, globs, used);
        if (!name.empty()) module[n.get()] = name;
    }
    for (auto const& g : globs)
        check<UsageError>(used.contains(g), "plan: recompute '{}' names no module of the program", g);

    // Values that leave their module, and are therefore kept.
    std::unordered_map<Value, bool, ValueHash> leaves;
    for (auto const& n : graph.nodes)
        if (n->origin.phase == Phase::forward)
            for (auto const& v : n->inputs)
                if (auto it = module.find(v.node.get()); it != module.end()) {
                    auto reader = module.find(n.get());
                    if (reader == module.end() || reader->second != it->second) leaves[v] = true;
                }
    for (auto const& o : graph.outputs) leaves[o.value] = true;

    std::unordered_map<Node const*, std::shared_ptr<Node const>> copies;
    std::function<Value(Value const&, Rewriter&)> again = [&](Value const& v, Rewriter& r) -> Value {
        if (!module.contains(v.node.get()) || leaves.contains(v)) return r.mapped(v);
        auto& copy = copies[v.node.get()];
        if (!copy) {
            std::vector<Value> inputs;
            for (auto const& i : v.node->inputs) inputs.push_back(again(i, r));
            Origin origin = v.node->origin;
            origin.phase = Phase::backward;
            origin.recomputed = true;
            OriginScope scope(origin);
            copy = record(v.node->op, std::move(inputs));
        }
        return {copy, v.output};
    };
    return rewrite(graph, [&](Node const& node, Rewriter& r) -> std::vector<Value> {
        if (node.origin.phase == Phase::forward) return {};
        std::vector<Value> inputs;
        for (auto const& v : node.inputs) inputs.push_back(again(v, r));
        return values_of(record(node.op, std::move(inputs)));
    });
}

}  // namespace plait
