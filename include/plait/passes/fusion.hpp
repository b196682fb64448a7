#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

namespace plait {

/// Joins neighbours into ops that have one kernel: bias and GELU into products, residual adds into norms and
/// their gradients, loss and gradient of the chunked projection, clipping and the guard into updates. Each is
/// a row of a table in fusion-inl.hpp.
Graph fuse(Graph const& graph);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/passes/fusion-inl.hpp"
#endif
