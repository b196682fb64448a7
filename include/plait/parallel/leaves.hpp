#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"
#include "plait/parallel/choose.hpp"

#include <cstdint>
#include <functional>
#include <vector>

namespace plait {

/// The leaves of canonical sums that one micro-batch of one rank holds (Bits::layout). The whole batch is cut
/// into `batch` leaves; runs of `chain` of them are virtual data ranks. Leaves are added up in a chain inside
/// a virtual data rank and in a binary tree across them.
struct Leaves {
    std::int64_t count = 1;  // in a micro-batch
    std::int64_t chain = 1;
    /// Whether leaves of an op are made one after the other and added up then, at the price of room for all
    /// of them; without it, and else, they are added up as they come.
    std::function<bool(AnyOp const&)> together{};

    /// `pieces`: micro-batches of all ranks together.
    static Leaves of(Granularity const& g, std::int64_t pieces) {
        return {g.batch / pieces, g.batch / g.data, {}};
    }

    /// Addends of a micro-batch that the sum over time takes one after another: whole virtual data ranks are
    /// added up before.
    std::int64_t links() const { return count < chain ? count : 1; }
    std::int64_t time_chain() const { return count < chain ? chain : 1; }
};

/// Whether a node that `layout` cuts must run leaf by leaf: it sums over the factor, or its bits depend on
/// the shape that it is called with.
bool needs_leaves(Node const& node, NodeLayout const& layout);

/// What `run_in_leaves` asks of its caller.
struct LeafHost {
    /// Block `i` of `n` of a value along `dim`.
    std::function<Value(Value const& v, int dim, std::int64_t i, std::int64_t n)> part;
    /// Told of every leaf's result: it is block `i` along `dim` of output `output`, or, if `dim` is -1, an
    /// addend.
    std::function<void(Value const& v, int output, int dim, std::int64_t i)> made;
};

/// Runs `op` leaf by leaf on blocks that lie as `layout` says. Gives a value for every output that has the
/// batch, and for a sum the addends that are left for the sum over time, `leaves.links()` of them.
std::vector<std::vector<Value>> run_in_leaves(AnyOp const& op, std::vector<Value> const& inputs,
                                              Metas const& out, NodeLayout const& layout,
                                              Leaves const& leaves, LeafHost const& host);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/leaves-inl.hpp"
#endif
