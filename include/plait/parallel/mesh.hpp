#pragma once

#include "plait/comm/communicator.hpp"
#include "plait/core/inline.hpp"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plait {

/// One axis of a mesh: how many ranks lie along it, and where this one lies.
struct MeshAxis {
    std::string name;
    int size = 1, coordinate = 0;
};

/// The axes that every mesh has, outermost first: ranks that differ in the last one are neighbours.
inline constexpr std::string_view mesh_axes[] = {"replica", "data", "pipeline", "tensor"};

/// Sizes by axis name; an axis that is not named has size 1, and is still an axis.
using MeshSizes = std::map<std::string, int, std::less<>>;

/// Reads "data=2,tensor=2". Throws UsageError naming the part that is wrong.
MeshSizes parse_mesh(std::string_view text);

/// A world of ranks laid out along axes, each with a communicator of its own. A handle: copies share them.
///
/// Places of the mesh count outward from its last axis. Which rank of the world stands at which of them is
/// the mesh's order, rank r at place r unless another is given (place_ranks makes one); no number depends on
/// it.
class Mesh {
  public:
    /// One rank.
    Mesh() : Mesh(MeshSizes{}, 0) {}
    /// All ranks of `world` together; collective. `world` must outlive the mesh and its copies. Throws
    /// UsageError where the sizes do not multiply to its size, or name no axis. `order` [ranks]: the rank of
    /// the world at each place, the same on all ranks; empty for rank r at place r. Throws Error where it is
    /// no permutation.
    Mesh(Communicator& world, MeshSizes const& sizes, std::vector<int> order = {});
    /// The mesh as rank `rank` of the world sees it, without communicators: its programs compile, and run
    /// only if all axes have size 1.
    Mesh(MeshSizes const& sizes, int rank, std::vector<int> order = {});
    /// The same mesh as another rank of the world sees it, without communicators.
    Mesh seen_by(int rank) const;

    std::vector<MeshAxis> const& axes() const { return data_->axes; }
    /// The axis of this name; throws UsageError where there is none.
    MeshAxis const& axis(std::string_view name) const;
    int ranks() const;
    /// This rank's number in the world.
    int rank() const { return data_->rank; }
    /// Its place in the mesh.
    int place() const;
    /// The communicator along an axis, or null where the mesh has none.
    Communicator* along(std::string_view name) const;
    Communicator* world() const { return data_->world; }

    /// The part [first, last) of `count` samples of a batch that this rank has: its block along replica and
    /// data. Throws UsageError where they do not divide it.
    std::pair<std::int64_t, std::int64_t> samples(std::int64_t count) const;

    /// What this rank has sent along every axis since the last reset.
    std::vector<std::pair<std::string, TrafficRow>> traffic() const;
    void reset_traffic() const;
    /// "replica=1, data=2, pipeline=1, tensor=1"
    std::string text() const;

  private:
    struct Data {
        std::vector<MeshAxis> axes;
        std::vector<std::unique_ptr<Communicator>> along;
        Communicator* world = nullptr;
        std::vector<int> order;
        int rank = 0;
    };
    static std::shared_ptr<Data> laid(MeshSizes const& sizes, int rank, std::vector<int> order);
    std::shared_ptr<Data const> data_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/mesh-inl.hpp"
#endif
