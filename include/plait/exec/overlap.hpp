#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace plait {

/// Nodes in an order in which they can run.
using NodeOrder = std::vector<std::shared_ptr<Node const>>;

/// The same nodes in an order in which collectives overlap with work, as far as memory allows: it moves the
/// starts of gathers and the awaits, and nothing else. Nodes that `part_of` tells apart (sections, pieces)
/// stay apart.
///
/// - A gather starts as soon as what it reads is there and gathered values that wait for their reader, or are
///   being read, take no more than those of the two largest modules.
/// - A result is awaited where it is first read.
/// - A reduction that frees what it reads (Await::at_once) is awaited once others that came after it hold
/// more
///   than the gradients of the largest module.
///
/// A module here is a path up to its first number ("blocks.3"), forward and backward apart.
NodeOrder overlapped(NodeOrder const& order, std::function<std::pair<int, int>(Node const*)> const& part_of);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/exec/overlap-inl.hpp"
#endif
