#pragma once

#include "plait/parallel/layout.hpp"
#include "plait/parallel/lines.hpp"

namespace plait {

/// The layouts that readers would like values to have: what a line says of a marked value, and what the
/// stored variables beside it in an elementwise op have (the optimizer's state beside a gradient), handed on
/// backwards through elementwise ops. Only shards; an axis without a wish replicates.
ValueMap<Layout> wishes(Graph const& graph, ResolvedLines const& lines, Mesh const& mesh);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/wishes-inl.hpp"
#endif
