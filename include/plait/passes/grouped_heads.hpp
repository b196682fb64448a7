#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <cstdint>

namespace plait {

/// Lets `ways` blocks of query heads divide attention whose key and value heads are fewer: each of those is
/// read as often as it takes, and what comes back for it is summed up. Keys, values and their gradients are
/// whole on every rank; the projections that make them may stay divided. Attention whose query heads `ways`
/// does not divide stays as it is, and so does all other.
Graph spread_grouped_heads(Graph const& graph, std::int64_t ways);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/passes/grouped_heads-inl.hpp"
#endif
