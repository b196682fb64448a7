#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

namespace plait {

/// Forward and backward compute in `dtype`: f32 parameters, batch columns and constants of two dims or more
/// are read as copies in it, and so is every f32 operand of a product; activations follow, since an op
/// computes in its operands' dtype. Gains and biases, statistics, losses, sums over the batch and updates
/// stay f32. Micikevicius et al., "Mixed precision training", 2018.
Graph lower_precision(Graph const& graph, DType dtype);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/passes/precision-inl.hpp"
#endif
