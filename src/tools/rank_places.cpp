#include "rank_places.hpp"

#include <unistd.h>

#include <functional>
#include <map>

#include "plait/io/file.hpp"
#include "plait/parallel/islands.hpp"
#include "plait/train/agreement.hpp"

namespace plait::tools {
namespace {

ClusterFile load_cluster_file(Config const& config) {
    auto const& path = config.run.cluster_file;
    std::string text;
    try {
        text = read_file(path);
    } catch (Error const& e) {
        fail<UsageError>("run.cluster_file = {} ({}): {}", value_text(path),
                         config.origins.at("run.cluster_file"), e.what());
    }
    return parse_cluster_file(text, path);
}

/// "2 of 4 ranks", "2 of 4 ranks and 1 of 1 rank"
std::string sizes_text(std::vector<int> const& sizes) {
    std::map<int, int, std::greater<>> counts;
    for (int n : sizes) ++counts[n];
    std::string text;
    for (auto const& [size, count] : counts)
        text += fmt::format("{}{} of {} {}", text.empty() ? "" : " and ", count, size,
                            size == 1 ? "rank" : "ranks");
    return text;
}

std::string axes_text(std::vector<AxisPlace> const& axes) {
    std::string within, across;
    int inside = 0, crossing = 0;
    for (auto a = axes.rbegin(); a != axes.rend(); ++a) {
        auto& text = a->crosses ? across : within;
        auto& count = a->crosses ? crossing : inside;
        text += (count++ ? " and " : "") + a->name;
    }
    std::string text;
    if (inside) text += within + (inside == 1 ? " lies within" : " lie within");
    if (crossing) text += (inside ? ", " : "") + across + (crossing == 1 ? " crosses" : " cross");
    return text;
}

}  // namespace

std::string RankPlaces::text() const {
    auto line = sizes_text(island_sizes(islands));
    if (file) line += ", by " + file->name;
    else if (island_sizes(islands).size() > 1) line += ", by hosts";
    return axes.empty() ? line : line + ": " + axes;
}

RankPlaces place_world(Config const& config, MeshSizes const& sizes, std::vector<std::string> const& hosts) {
    RankPlaces places;
    int ranks = 1;
    for (auto const& [axis, size] : sizes) ranks *= size;
    if (!config.run.cluster_file.empty()) {
        places.file = load_cluster_file(config);
        places.islands = islands_of(*places.file, ranks, hosts);
    } else {
        std::map<std::string, int> known;
        for (auto const& host : hosts)
            places.islands.push_back(known.try_emplace(host, static_cast<int>(known.size())).first->second);
        places.islands.resize(static_cast<std::size_t>(ranks));
    }
    places.order = place_ranks(sizes, places.islands);
    auto const axes = axis_places(sizes, places.islands, places.order);
    places.axes = axes_text(axes);
    if (axes.empty() || axes.back().name != mesh_axes[std::size(mesh_axes) - 1] || !axes.back().crosses)
        return places;
    auto const& [name, size, crosses] = axes.back();
    auto const on = island_sizes(places.islands);
    auto const fits = largest_inside(size, on);
    places.note =
        fmt::format("{} = {} crosses islands ({}): {}", name, size, sizes_text(on),
                    fits > 1 ? fmt::format("a size of {} would not", fits) : "no size above 1 fits all");
    return places;
}

std::vector<std::string> hosts_of(World const& cluster, Communicator& world) {
    if (!cluster.of_processes()) return {};
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    return gather_texts(world, name);
}

std::vector<std::string> planned_hosts(Launcher const& launcher, std::int64_t ranks) {
    std::vector<std::string> hosts;
    if (launcher.processes == ranks)
        for (int r = 0; r < launcher.processes; ++r) hosts.push_back(std::to_string(r / launcher.here));
    return hosts;
}

}  // namespace plait::tools
