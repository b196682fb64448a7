#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/state.hpp"
#include "plait/train/agreement.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

namespace plait {

/// Which ranks hold equal blocks of the variables, and which of the holders writes them into a checkpoint:
/// they take turns, so that the blocks are spread over all ranks.
class BlockHolders {
  public:
    /// `places` [ranks, variables] from `place_number`.
    BlockHolders(std::vector<std::int64_t> places, std::size_t variables);

    /// Equal for blocks of one variable that lie at the same place.
    static std::int64_t place_number(Shape const& block, Placement const& place);

    /// The first rank that holds the block which rank `r` holds of variable `v`.
    int first_holder(std::size_t v, int r) const;
    /// Of each rank, the variables whose block it writes.
    std::vector<std::vector<std::size_t>> written() const;

  private:
    std::vector<std::int64_t> places_;
    std::size_t variables_;
    int ranks_;
};

/// One variable as all ranks of a world hold it; on other ranks than 0 empty.
struct GatheredVariable {
    Array whole{};  // where copies of a block differ, what the first rank has counts
    Shape block{};  // of the ranks that hold some of it
    /// Where each rank's block begins; nothing for a rank that holds none of it, as a pipeline has them.
    std::vector<std::optional<Shape>> origins{};
    int odd_rank = -1;  // the first whose copy is not that of an earlier rank, or -1
};

/// Of each block the first rank that holds it sends its copy, or with `compare` every rank; rank 0 takes them
/// one at a time. Collective.
GatheredVariable gather_variable(Communicator& world, State const& state, Variable const& v, bool compare);

/// Copies a block into its whole, or out of it. Both are of one dtype.
void copy_block(Array const& whole, Array const& block, Placement const& place, bool into_whole);

/// A state whose blocks lie on the ranks of a world. All ranks have the same variables in the same order;
/// ranks whose blocks of a variable lie at the same place hold copies of it.
class SharedState {
  public:
    /// Collective, once the programs have laid the state out. `world` must outlive this object. Throws
    /// AgreedUsageError where the ranks' variables differ.
    SharedState(Communicator& world, std::shared_ptr<State> state);

    Communicator& world() const { return world_; }
    State& state() const { return *state_; }

    /// Whether this rank writes its block of a variable into a checkpoint: one of its holders does.
    bool writes(Variable const& v) const { return writes_.contains(&v); }
    /// Of a copy of all that this rank writes.
    std::int64_t snapshot_bytes() const;

    /// params_hash: the sum modulo 2^64 of State::parameter_hash over the distinct blocks of all parameters,
    /// so that it is the same on every layout. Collective; one small all_gather. Throws AgreedError where an
    /// element is not finite, and where copies differ: naming the parameter and two ranks.
    std::uint64_t parameter_hash() const;

    /// What all ranks hold of a variable, whole, on rank 0; empty on the others. Collective.
    Array gather(Variable const& v) const { return gather_variable(world_, *state_, v, false).whole; }

  private:
    Communicator& world_;
    std::shared_ptr<State> state_;
    std::optional<BlockHolders> holders_;
    std::unordered_set<Variable const*> writes_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/shared_state-inl.hpp"
#endif
