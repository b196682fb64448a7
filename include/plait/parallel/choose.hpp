#pragma once

#include "plait/parallel/layout.hpp"
#include "plait/parallel/lines.hpp"
#include "plait/parallel/plan.hpp"

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace plait {

/// What an axis does to one node: which factor of its rule it cuts (-1: none, every block does the same
/// work), and how its inputs must come and its outputs leave.
struct NodeLayout {
    int factor = -1;
    std::vector<AxisLayout> inputs, outputs;
};

/// What `choose` must know besides the inputs' layouts.
struct AxisCut {
    std::int64_t size = 1;              // ranks along the axis
    std::vector<std::int64_t> taken{};  // blocks that other axes cut each factor into; empty: one
    std::vector<std::string> lines{};   // of the plan, for errors
    /// Bits::layout, where store lines must not change bits: what is stored cuts no op that sums over the
    /// factor or whose bits depend on the shape it is called with.
    bool keep_bits = false;
};

/// Chooses the factor of `node` that an axis cuts, given how its inputs are laid out: that of the first input
/// that is sharded, and only where there is none that of the first that is stored so. Other inputs that hold
/// the factor must be cut along it too; where one is cut otherwise or the factor must stay whole, the input
/// is wanted whole. Throws UsageError where shard lines ask for two factors, or for one that the axis does
/// not divide, naming op, dim and line.
NodeLayout choose(Node const& node, std::vector<AxisLayout> const& inputs, AxisCut const& cut);

/// How the mesh cuts every node and value of a graph.
struct Layouts {
    std::unordered_map<Node const*, std::vector<NodeLayout>> nodes;  // by axis
    ValueMap<Layout> made;  // as the node leaves it: partial where addends are yet to be summed
    ValueMap<Layout> held;  // as readers find it: partials resolved, and laid out as a line says
    std::unordered_set<Value, ValueHash> reduced_at_once;
    bool reduced_inside = true;  // and that in every micro-batch: other bits than once a step
};

/// The nodes that would gather what a shard line divides because their rule keeps it whole, and that have a
/// definition in simpler ops, which may not.
std::unordered_set<Node const*> gathering_nodes(Graph const& graph, Layouts const& layouts);

/// Goes through the graph in its order: variables and marked values lie as the plan's lines say, batch
/// columns are cut along dim 0 by replica and data, and the rest follows from the ops' rules. A partial value
/// is resolved at its producer into the layout that its readers wish (wishes.hpp), unless all of them take
/// addends. Throws UsageError naming op, dim and line for a layout that cannot hold.
Layouts lay_out(Graph const& graph, ResolvedLines const& lines, Mesh const& mesh, Bits bits);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/choose-inl.hpp"
#endif
