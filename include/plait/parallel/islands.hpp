#pragma once

#include "plait/core/inline.hpp"
#include "plait/parallel/mesh.hpp"

#include <string>
#include <vector>

// Where the ranks of a mesh stand: an island is devices with fast links between them (NVLink, or one host), a
// cluster is islands joined by a network.
namespace plait {

/// The order of a mesh (see Mesh) that keeps its inner axes within islands: of the blocks of neighbours that
/// the tensor axis makes, then pipeline and tensor, then data, pipeline and tensor, as many as fit lie on one
/// island each. `islands` [ranks] is the island of every rank of the world, any numbers. Of equal choices the
/// island of the lowest rank comes first, and ranks keep their order, so that one island gives rank r at
/// place r. Throws UsageError where the sizes do not multiply to the ranks.
std::vector<int> place_ranks(MeshSizes const& sizes, std::vector<int> const& islands);

/// How an axis lies: whether some ranks that differ in its coordinate alone are on different islands.
struct AxisPlace {
    std::string name;
    int size = 1;
    bool crosses = false;
};
/// The axes of more than one rank, outermost first, over an order from place_ranks.
std::vector<AxisPlace> axis_places(MeshSizes const& sizes, std::vector<int> const& islands,
                                   std::vector<int> const& order);

/// The ranks on each island, islands in the order of their lowest rank.
std::vector<int> island_sizes(std::vector<int> const& islands);

/// The largest size up to `size` of the innermost axis that lies within islands of these sizes.
int largest_inside(int size, std::vector<int> const& island_sizes);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/islands-inl.hpp"
#endif
