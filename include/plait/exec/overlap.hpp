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
/// starts of gathers, awaits, and products of weight gradients. Nodes that `part_of` tells apart (sections,
/// pieces) stay apart.
///
/// - A gather of a weight starts once those gathered ahead of their readers, or being read, take with it no
///   more than the two largest modules. Activations are gathered where they are read: to hold less of them is
///   why they are divided.
/// - A result is awaited where it is first read; what is made of it alone and is as large (a view, a cast),
/// and
///   its sum over micro-batches, waits with it. Weight gradients that no reduction waits for are made just
///   before such a wait.
/// - A reduction that frees what it reads (Await::soon) is awaited once later ones hold more than the
///   gradients of the largest module.
///
/// A module here is a path up to its first number ("blocks.3"), forward and backward apart.
NodeOrder overlapped(NodeOrder const& order, std::function<std::pair<int, int>(Node const*)> const& part_of);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/exec/overlap-inl.hpp"
#endif
