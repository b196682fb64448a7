#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <functional>
#include <vector>

namespace plait {

class Rewriter;

/// What a pass puts in a node's place: as many values as the node has outputs, or none to keep the node.
/// Nodes recorded inside get the node's origin.
using Replace = std::function<std::vector<Value>(Node const& node, Rewriter& rewriter)>;

/// Records a graph again, node by node; sources stay the same nodes.
class Rewriter {
  public:
    Rewriter(Graph const& graph, Replace replace) : graph_(graph), replace_(std::move(replace)) {}

    /// The value in the new graph that stands for `v` of the old one; its node is rewritten now if it was not
    /// yet.
    Value mapped(Value const& v);
    std::vector<Value> mapped(std::vector<Value> const& values);
    /// From now on `fresh` stands for `v`; what read it before reads what stood for it then.
    void put(Value const& v, Value fresh) { map_[v] = std::move(fresh); }
    /// The node as it is, on mapped inputs.
    std::vector<Value> keep(Node const& node);

    /// The new graph, without nodes that nothing reads any more.
    Graph run();

  private:
    void rewrite_node(std::shared_ptr<Node const> const& node);

    Graph const& graph_;
    Replace replace_;
    ValueMap<Value> map_;
};

inline Graph rewrite(Graph const& graph, Replace replace) {
    return Rewriter(graph, std::move(replace)).run();
}

namespace detail {
/// Whether `op` takes operands of these metas.
bool infers(AnyOp const& op, Metas const& in);
}  // namespace detail

/// The nodes that read each value; null stands for an output or an update of the graph.
using Readers = ValueMap<std::vector<Node const*>>;
Readers readers_of(Graph const& graph);

/// Merges nodes that apply equal ops to equal inputs in the same phase; recomputed copies stay apart, and
/// unless `across_modules` those of other modules.
Graph merge_common(Graph const& graph, bool across_modules = true);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/graph/pass-inl.hpp"
#endif
