#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <string>
#include <vector>

namespace plait {

/// Backward nodes read fresh copies of the forward nodes of each module that a glob names, made from what
/// enters the module, instead of values kept from forward. What other modules read is kept: it enters them.
/// Throws UsageError for a glob that names no module.
/// Chen et al., "Training deep nets with sublinear memory cost", 2016.
Graph recompute(Graph const& graph, std::vector<std::string> const& globs);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/autograd/recompute-inl.hpp"
#endif
