#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"
#include "plait/parallel/mesh.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace plait {

/// How one mesh axis cuts a value: not at all, one dim of it into equal blocks, or into addends of the whole.
struct AxisLayout {
    enum class Kind : std::uint8_t { replicate, shard, partial };
    Kind kind = Kind::replicate;
    int dim = 0;                 // of a shard
    Combine how = Combine::sum;  // of a partial
    bool stored = false;         // a shard by a store line: what is kept is divided, not the work
    int line = -1;               // the plan's line that it comes from, or -1

    static AxisLayout shard(int dim, bool stored = false, int line = -1) {
        return {Kind::shard, dim, Combine::sum, stored, line};
    }
    static AxisLayout partial(Combine how = Combine::sum) { return {Kind::partial, 0, how, false, -1}; }
    bool is_shard() const { return kind == Kind::shard; }
    bool is_partial() const { return kind == Kind::partial; }
    /// Whether the blocks are the same; where they come from does not matter.
    bool operator==(AxisLayout const& o) const {
        return kind == o.kind && (!is_shard() || dim == o.dim) && (!is_partial() || how == o.how);
    }
};
/// "replicate", "shard(0)", "stored(0)", "partial(max)"
std::string to_string(AxisLayout const& layout);

/// One layout for each axis of a mesh, in the mesh's order.
using Layout = std::vector<AxisLayout>;
/// "data shard(0), tensor partial(sum)"; axes that replicate are left out, "replicate" if all do.
std::string to_string(Layout const& layout, Mesh const& mesh);

/// Axes that cut one dim nest in this order, outermost first: indices into the mesh's axes.
std::vector<int> nesting(Mesh const& mesh);

/// The block of a value of shape `logical` that a rank of the mesh holds, and where it lies; partial axes do
/// not count.
std::pair<Shape, Placement> block_of(Shape const& logical, Layout const& layout, Mesh const& mesh);

namespace detail {

inline Metas metas_of(std::vector<Value> const& values) {
    Metas metas;
    for (auto const& v : values) metas.push_back(v.meta());
    return metas;
}

}  // namespace detail

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/layout-inl.hpp"
#endif
