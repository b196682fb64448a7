#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/state.hpp"
#include "plait/train/agreement.hpp"

#include <cstdint>
#include <memory>
#include <unordered_set>
#include <vector>

namespace plait {

/// A state whose blocks lie on the ranks of a world. All ranks have the same variables in the same order;
/// ranks whose blocks of a variable lie at the same place hold copies of it.
class SharedState {
  public:
    /// Collective, once the programs have laid the state out. `world` must outlive this object. Throws
    /// AgreedUsageError where the ranks' variables differ.
    SharedState(Communicator& world, std::shared_ptr<State> state);

    Communicator& world() const { return world_; }
    State& state() const { return *state_; }

    /// Whether this rank writes its block of a variable into a checkpoint: one of its holders does, in turn,
    /// so that the blocks are spread over all ranks.
    bool writes(Variable const& v) const { return writes_.contains(&v); }

    /// params_hash: the sum modulo 2^64 of State::parameter_hash over the distinct blocks of all parameters,
    /// so that it is the same on every layout. Collective; one small all_gather. Throws AgreedError where an
    /// element is not finite, and where copies differ: naming the parameter and two ranks.
    std::uint64_t parameter_hash() const;

  private:
    /// The first rank that holds the block which rank `r` holds of variable `v`, counted in the state.
    int first_holder(std::size_t v, int r) const;

    Communicator& world_;
    std::shared_ptr<State> state_;
    std::vector<std::int64_t> places_;  // [ranks, variables]: equal numbers are equal blocks
    std::unordered_set<Variable const*> writes_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/shared_state-inl.hpp"
#endif
