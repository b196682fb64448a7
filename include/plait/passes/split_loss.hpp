#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <cstdint>

namespace plait {

/// Lets `ways` blocks of the vocabulary divide losses of the chunked output projection: should one give way
/// to its definition (`gathering_nodes`), that makes logits in chunks too, block by block. A vocabulary that
/// `ways` does not divide stays as it is.
Graph split_losses(Graph const& graph, std::int64_t ways);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/passes/split_loss-inl.hpp"
#endif
