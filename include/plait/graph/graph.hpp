#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/op.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace plait {

struct Node;

/// One output of a node.
struct Value {
    std::shared_ptr<Node const> node;
    int output = 0;

    explicit operator bool() const { return node != nullptr; }
    bool operator==(Value const&) const = default;
    Meta const& meta() const;
};
struct ValueHash {
    std::size_t operator()(Value const& v) const {
        return std::hash<void const*>()(v.node.get()) * 31 + static_cast<std::size_t>(v.output);
    }
};
template <class T>
using ValueMap = std::unordered_map<Value, T, ValueHash>;

enum class Phase : std::uint8_t { forward, backward, update };
constexpr std::string_view name_of(Phase p) {
    constexpr std::string_view names[] = {"forward", "backward", "update"};
    return names[static_cast<std::size_t>(p)];
}

/// Where in the program text a node comes from; a node made by a pass inherits it.
struct Origin {
    std::string path;  // of the module: "blocks.3.mlp"
    Phase phase = Phase::forward;
    bool recomputed = false;  // a copy made for backward, never merged with what it copies
};

/// An op applied to values. Nodes never change once recorded, and own their inputs.
struct Node {
    AnyOp op;
    std::vector<Value> inputs;
    Metas outputs;
    Origin origin;
    std::int64_t sequence = 0;  // grows with the time of recording

    ~Node();
};

inline Meta const& Value::meta() const { return node->outputs[static_cast<std::size_t>(output)]; }

/// All outputs of a node.
inline std::vector<Value> values_of(std::shared_ptr<Node const> const& node) {
    std::vector<Value> values;
    for (std::size_t i = 0; i < node->outputs.size(); ++i) values.push_back({node, static_cast<int>(i)});
    return values;
}

/// A named result of a graph.
struct Output {
    std::string name;
    Value value;
};

/// New contents of a state variable: `variable` is the source it is read by.
struct Update {
    Value variable;
    Value value;
};

/// A name for a value that plan lines can speak of: "blocks.3.out".
struct Mark {
    std::string name;
    Value value;
};

/// A recorded program: nodes in an order in which they can run, each before its readers.
struct Graph {
    std::vector<std::shared_ptr<Node const>> nodes;
    std::vector<Output> outputs;
    std::vector<Update> updates;
    std::vector<Mark> marks;
    std::vector<Value> effects;  // what nobody reads and yet has to be done: messages to other ranks

    /// The nodes that `outputs`, `updates` and `effects` need, in the order they were recorded; marks of
    /// other nodes go.
    static Graph of(std::vector<Output> outputs, std::vector<Update> updates = {},
                    std::vector<Mark> marks = {}, std::vector<Value> effects = {});

    /// One line a node: "%12 = product(form=nt) %3 %11 : f32[8, 64]  # blocks.0.q forward".
    std::string text() const;
    /// The same for Graphviz.
    std::string dot() const;
};

/// "variable blocks.0.q.weight" of a source, else the op and its attributes.
std::string node_label(Node const& node);

/// The position of each node in `graph.nodes`.
std::unordered_map<Node const*, int> index_of(Graph const& graph);

/// Applies `op`: infers the outputs and records the node under the current scope (trace.hpp).
/// Throws ShapeError that names the op, the shapes, the clash, and the module path.
std::shared_ptr<Node const> record(AnyOp op, std::vector<Value> inputs);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/graph/source.hpp"  // then trace.hpp, then graph-inl.hpp, which needs both whole
#endif
