#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace plait {

/// How one mesh axis cuts a value: not at all, one dim of it into equal blocks, or into addends of the whole.
struct AxisLayout {
    enum class Kind : std::uint8_t { replicate, shard, partial };
    Kind kind = Kind::replicate;
    int dim = 0;  // of a shard

    static AxisLayout shard(int dim) { return {Kind::shard, dim}; }
    static AxisLayout partial() { return {Kind::partial, 0}; }
    bool is_shard() const { return kind == Kind::shard; }
    bool is_partial() const { return kind == Kind::partial; }
    bool operator==(AxisLayout const&) const = default;
};
std::string to_string(AxisLayout const& layout);

/// What an axis does to one node: which factor of its rule it cuts (-1: none, every block does the same
/// work), and how its inputs must come and its outputs leave. A partial output is an addend of the sum.
struct NodeLayout {
    int factor = -1;
    std::vector<AxisLayout> inputs, outputs;
};

/// Chooses the factor of `node` that an axis of `size` cuts, given how its inputs are laid out: the factor of
/// the first input that is sharded. Other inputs that hold the factor must be cut along it too; where one is
/// sharded otherwise or the factor must stay whole, the input is wanted whole (replicate).
NodeLayout choose(Node const& node, std::vector<AxisLayout> const& inputs, std::int64_t size);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/layout-inl.hpp"
#endif
