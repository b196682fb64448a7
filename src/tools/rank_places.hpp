#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cluster_file.hpp"
#include "config.hpp"
#include "launch.hpp"

namespace plait::tools {

/// Where the ranks of a world stand, and so which of them a mesh has at which place.
struct RankPlaces {
    std::vector<int> islands;         // of each rank of the world
    std::vector<int> order;           // of the mesh: see place_ranks
    std::optional<ClusterFile> file;  // that says so; else hosts are islands
    std::string axes;                 // "tensor lies within, data crosses"; empty on one rank
    std::string note;                 // what the tensor axis should be where it crosses islands; mostly empty

    /// "2 of 4 ranks, by examples/clusters/two-islands.toml: tensor lies within, data crosses"
    std::string text() const;
};

/// Places a mesh of these sizes by run.cluster_file, or else by `hosts` [ranks], the hosts that the ranks run
/// on; all are on one island where that is empty. Throws UsageError where the file cannot be read or does not
/// fit.
RankPlaces place_world(Config const& config, MeshSizes const& sizes, std::vector<std::string> const& hosts);

/// The hosts of all ranks of a running world; empty where all are threads of this process. Collective.
std::vector<std::string> hosts_of(World const& cluster, Communicator& world);

/// What a launcher says of hosts before its processes can talk: as many ranks on each as on this one.
std::vector<std::string> planned_hosts(Launcher const& launcher, std::int64_t ranks);

}  // namespace plait::tools
