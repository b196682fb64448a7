#pragma once

#include "plait/graph/graph.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"

#include <algorithm>
#include <atomic>

namespace plait {

// A long chain of nodes is taken apart in a loop: each node would free its inputs recursively otherwise.
PLAIT_INLINE Node::~Node() {
    static thread_local std::vector<Value>* pending = nullptr;
    if (pending) {
        for (auto& v : inputs) pending->push_back(std::move(v));
        return;
    }
    std::vector<Value> work = std::move(inputs);
    pending = &work;
    while (!work.empty()) {
        Value v = std::move(work.back());
        work.pop_back();
    }
    pending = nullptr;
}

PLAIT_INLINE std::shared_ptr<Node const> record(AnyOp op, std::vector<Value> inputs) {
    static std::atomic<std::int64_t> sequence{0};
    Metas in;
    in.reserve(inputs.size());
    for (auto const& v : inputs) in.push_back(v.meta());
    auto const& origin = Recorder::current().origin;
    Metas out;
    try {
        out = op.infer(in);
    } catch (ShapeError const& e) {
        if (origin.path.empty()) throw;
        fail<ShapeError>("{}, in {}", e.what(), origin.path);
    }
    return std::make_shared<Node const>(
        Node{std::move(op), std::move(inputs), std::move(out), origin, ++sequence});
}

PLAIT_INLINE Graph Graph::of(std::vector<Output> outputs, std::vector<Update> updates,
                             std::vector<Mark> marks, std::vector<Value> effects) {
    Graph g{{}, std::move(outputs), std::move(updates), std::move(marks), std::move(effects)};
    std::unordered_map<Node const*, bool> seen;
    std::vector<std::shared_ptr<Node const>> stack;
    auto want = [&](Value const& v) {
        if (v && seen.emplace(v.node.get(), true).second) stack.push_back(v.node);
    };
    for (auto const& o : g.outputs) want(o.value);
    for (auto const& u : g.updates) want(u.variable), want(u.value);
    for (auto const& v : g.effects) want(v);
    while (!stack.empty()) {
        auto node = std::move(stack.back());
        stack.pop_back();
        for (auto const& v : node->inputs) want(v);
        g.nodes.push_back(std::move(node));
    }
    std::sort(g.nodes.begin(), g.nodes.end(), [](auto& a, auto& b) { return a->sequence < b->sequence; });
    std::erase_if(g.marks, [&](Mark const& m) { return !seen.contains(m.value.node.get()); });
    return g;
}

PLAIT_INLINE std::unordered_map<Node const*, int> index_of(Graph const& graph) {
    std::unordered_map<Node const*, int> index;
    for (auto const& n : graph.nodes) index.emplace(n.get(), static_cast<int>(index.size()));
    return index;
}

PLAIT_INLINE std::string node_label(Node const& node) {
    auto const* s = source_of(node);
    if (!s) return node.op.text();
    auto variable = s->variable.lock();
    return fmt::format("{} {}", name_of(s->kind), variable ? variable->path : s->label);
}

PLAIT_INLINE std::string Graph::text() const {
    auto index = index_of(*this);
    auto name = [&](Value const& v) {
        auto text = fmt::format("%{}", index.at(v.node.get()));
        if (v.node->outputs.size() > 1) text += fmt::format(".{}", v.output);
        return text;
    };
    std::string text;
    for (auto const& n : nodes) {
        text += fmt::format("%{} = {}", index.at(n.get()), node_label(*n));
        for (auto const& v : n->inputs) text += " " + name(v);
        text += " : " + to_string(n->outputs);
        if (!source_of(*n))
            text += fmt::format("  # {}{}{}", n->origin.path.empty() ? "" : n->origin.path + " ",
                                name_of(n->origin.phase), n->origin.recomputed ? " recomputed" : "");
        text += "\n";
    }
    for (auto const& m : marks) text += fmt::format("mark {} = {}\n", m.name, name(m.value));
    for (auto const& u : updates)
        text += fmt::format("store {} <- {}\n", node_label(*u.variable.node), name(u.value));
    for (auto const& o : outputs) text += fmt::format("output {} = {}\n", o.name, name(o.value));
    return text;
}

PLAIT_INLINE std::string Graph::dot() const {
    auto index = index_of(*this);
    std::string text = "digraph plait {\n  node [shape=box, fontname=monospace];\n";
    for (auto const& n : nodes) {
        text += fmt::format("  n{} [label=\"{}\\n{}\"{}];\n", index.at(n.get()), node_label(*n),
                            to_string(n->outputs), source_of(*n) ? ", style=rounded" : "");
        for (auto const& v : n->inputs)
            text += fmt::format("  n{} -> n{};\n", index.at(v.node.get()), index.at(n.get()));
    }
    for (auto const& o : outputs) {
        text += fmt::format("  \"{}\" [shape=ellipse];\n", o.name);
        text += fmt::format("  n{} -> \"{}\";\n", index.at(o.value.node.get()), o.name);
    }
    for (auto const& u : updates)
        text += fmt::format("  n{} -> n{} [style=dashed, constraint=false];\n", index.at(u.value.node.get()),
                            index.at(u.variable.node.get()));
    return text + "}\n";
}

}  // namespace plait
