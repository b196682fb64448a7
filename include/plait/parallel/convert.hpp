#pragma once

#include "plait/graph/sections.hpp"
#include "plait/parallel/choose.hpp"

#include <cstdint>
#include <optional>

namespace plait {

/// A rank's share of a graph that is laid out: every node on its block, and where a value is read otherwise
/// than it lies, what brings it there: a part of what is whole, a gather of blocks, a reduction of addends,
/// innermost axis first. What is stored divided is gathered for one module and pass only, and its gathers are
/// repeated in every iteration. Axes of size 1 move nothing.
/// With `tensor_leaves` (Bits::layout) a node that the tensor axis cuts runs in that many leaves over all
/// ranks where its bits want it, and its sums are trees.
LocalGraph localize(Graph const& graph, Layouts const& layouts, Mesh const& mesh,
                    std::optional<std::int64_t> tensor_leaves = {});

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/convert-inl.hpp"
#endif
