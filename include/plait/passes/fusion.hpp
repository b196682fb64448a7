#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <functional>
#include <string_view>

namespace plait {

/// Joins neighbours into ops that have one kernel: bias, GELU and their gradients into products, residual
/// adds into norms and their gradients, loss and gradient of the chunked projection, clipping and the guard
/// into updates. Each is a row of a table in fusion-inl.hpp. A residual add stays where it is when the norm
/// belongs to a module that is `apart` from its own (two module paths): on another stage of a pipeline one
/// sum is read, not two addends. The bits are the same.
Graph fuse(Graph const& graph, std::function<bool(std::string_view, std::string_view)> const& apart = {});

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/passes/fusion-inl.hpp"
#endif
