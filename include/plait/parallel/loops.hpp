#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/sections.hpp"
#include "plait/parallel/leaves.hpp"

#include <optional>

namespace plait {

/// The axis of micro-batches, in time: dim 0 of every batch column is cut into `count` blocks, layouts follow
/// from the rules, and nodes that work on a block become the body of a loop. Sums over the batch turn into
/// running totals; where a body reads such a total, an earlier loop makes it, holding only what it needs,
/// because every node is placed as late as its readers allow. A block read after its loop, or by a later
/// loop, is kept for all micro-batches. With `leaves` every sum over the batch is canonical, and what depends
/// on the shape of a call runs leaf by leaf. For a `pipeline` to divide, one micro-batch
/// makes loops as well, and what two sums over the batch add up to is made after the loop. Throws UsageError
/// where `count` does not divide the batch.
Sections cut_loops(LocalGraph const& local, std::int64_t count, std::optional<Leaves> leaves = {},
                   bool pipeline = false);
/// The same for a graph of one rank.
inline Sections cut_loops(Graph graph, std::int64_t count, std::optional<Leaves> leaves = {}) {
    return cut_loops(LocalGraph{std::move(graph), {}, {}, {}}, count, leaves);
}

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/loops-inl.hpp"
#endif
