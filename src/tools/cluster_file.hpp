#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plait::tools {

/// What a device sends over a link.
struct Link {
    double bandwidth = 0;  // bytes a second
    double latency = 0;    // seconds
};

/// A cluster as a file describes it: islands, joined by a network.
///
///     [[island]]           # one entry for each kind of island, in the order in which ranks fill them
///     count = 2            # islands like this one; 1 by default
///     devices = 4          # ranks on each
///     hosts = ["a", "b"]   # whose ranks these are; by default ranks are taken in their order
///
///     [link.island]        # between devices of an island; may be left out
///     bandwidth = 900e9    # bytes a second
///     latency = 1e-6       # seconds
///
///     [link.network]       # between islands; may be left out
struct ClusterFile {
    struct Island {
        int devices = 1;
        std::vector<std::string> hosts;
    };
    std::string name;  // the file's path
    std::vector<Island> islands;
    std::optional<Link> island_link, network_link;
};

/// Reads TOML text; `name` stands for the file in errors. Throws UsageError of one line with file, line and
/// key: for what is no TOML, an unknown key (with the nearest one), and a value of a wrong type or size.
ClusterFile parse_cluster_file(std::string_view toml, std::string const& name);

/// The island of every rank of a world. `hosts` [ranks] are the hosts that they run on, empty where they are
/// not known. Throws UsageError where file and world do not fit.
std::vector<int> islands_of(ClusterFile const& file, int ranks, std::vector<std::string> const& hosts);

/// "within an island 900 GB/s and 1 us, between islands 50 GB/s and 5 us"; empty without links.
std::string links_text(ClusterFile const& file);

}  // namespace plait::tools
