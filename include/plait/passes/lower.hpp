#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <functional>
#include <string_view>

namespace plait {

/// Replaces ops that `has_kernel` denies by their definitions, down to ops that have one.
/// Throws Error naming an op that has neither.
Graph expand_definitions(Graph const& graph, std::function<bool(std::string_view op)> const& has_kernel);

/// Replaces the chosen nodes, which have one, by their definitions, once.
Graph expand_nodes(Graph const& graph, std::function<bool(Node const& node)> const& chosen);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/passes/lower-inl.hpp"
#endif
