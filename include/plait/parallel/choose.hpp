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

/// Chooses the factor of `node` that an axis of `size` cuts, given how its inputs are laid out: that of the
/// first input that is sharded, and only where there is none that of the first that is stored so. Other
/// inputs that hold the factor must be cut along it too; where one is cut otherwise or the factor must stay
/// whole, the input is wanted whole. `taken` counts the blocks that other axes cut each factor into (empty:
/// one). Throws UsageError where shard lines ask for two factors, or for one that the axis does not divide,
/// naming op, dim and `lines`.
NodeLayout choose(Node const& node, std::vector<AxisLayout> const& inputs, std::int64_t size,
                  std::vector<std::int64_t> const& taken = {}, std::vector<std::string> const& lines = {});

/// How the mesh cuts every node and value of a graph.
struct Layouts {
    std::unordered_map<Node const*, std::vector<NodeLayout>> nodes;  // by axis
    ValueMap<Layout> made;  // as the node leaves it: partial where addends are yet to be summed
    ValueMap<Layout> held;  // as readers find it: partials resolved, and laid out as a line says
    std::unordered_set<Value, ValueHash> reduced_at_once;
    bool reduced_inside = true;  // and that in every micro-batch: other bits than once a step
};

/// Goes through the graph in its order: variables and marked values lie as the plan's lines say, batch
/// columns are cut along dim 0 by replica and data, and the rest follows from the ops' rules. A partial value
/// is resolved at its producer into the layout that its readers wish (wishes.hpp), unless all of them take
/// addends. Throws UsageError naming op, dim and line for a layout that cannot hold.
Layouts lay_out(Graph const& graph, ResolvedLines const& lines, Mesh const& mesh, Bits bits);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/choose-inl.hpp"
#endif
