#include "cluster_file.hpp"

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>
#include <map>

#include "config.hpp"

namespace plait::tools {
namespace {

constexpr std::int64_t most_devices = 1 << 20;  // of a cluster

class ClusterReader {
  public:
    explicit ClusterReader(std::string const& name) { file_.name = name; }

    ClusterFile read(toml::table const& table) {
        for (auto const& [key, node] : table) {
            auto const name = std::string(key.str());
            if (name == "island") read_islands(node);
            else if (name == "link") read_links(node);
            else unknown(node, name);
        }
        check<UsageError>(!file_.islands.empty(), "{}: no island: write [[island]] with its devices",
                          file_.name);
        return std::move(file_);
    }

  private:
    template <class... Args>
    void want(bool ok, toml::node const& node, fmt::format_string<Args...> format, Args&&... args) const {
        check<UsageError>(ok, "{}:{}: {}", file_.name, node.source().begin.line,
                          fmt::format(format, std::forward<Args>(args)...));
    }

    void unknown(toml::node const& node, std::string const& key) const {
        want(false, node, "unknown key {}: the nearest is {}", key,
             nearest_name(key, {"island.count", "island.devices", "island.hosts", "link.island.bandwidth",
                                "link.island.latency", "link.network.bandwidth", "link.network.latency"}));
    }

    int integer(toml::node const& node, std::string const& key) const {
        auto const* value = node.as_integer();
        want(value && value->get() >= 1 && value->get() <= most_devices, node,
             "{} must be an integer from 1 to {}", key, most_devices);
        return static_cast<int>(value->get());
    }

    double number(toml::node const& node, std::string const& key, bool zero) const {
        auto const value = node.value<double>();
        bool const ok =
            node.is_number() && value && std::isfinite(*value) && (*value > 0 || (zero && *value == 0));
        want(ok, node, "{} must be a number {}", key,
             zero ? "from 0, in seconds" : "above 0, in bytes a second");
        return *value;
    }

    std::vector<std::string> host_names(toml::node const& node) const {
        auto const* list = node.as_array();
        want(list && !list->empty(), node, "island.hosts must be a list of names of hosts");
        std::vector<std::string> names;
        for (auto const& item : *list) {
            want(item.is_string() && !item.as_string()->get().empty(), item,
                 "island.hosts must be a list of names of hosts");
            names.push_back(item.as_string()->get());
        }
        return names;
    }

    void read_islands(toml::node const& node) {
        auto const* list = node.as_array();
        want(list && node.is_array_of_tables(), node, "island is a list of tables: write [[island]]");
        for (auto const& item : *list) {
            auto const& table = *item.as_table();
            ClusterFile::Island island;
            int count = 1;
            for (auto const& [name, value] : table) {
                auto const key = "island." + std::string(name.str());
                if (key == "island.count") count = integer(value, key);
                else if (key == "island.devices") island.devices = integer(value, key);
                else if (key == "island.hosts") island.hosts = host_names(value);
                else unknown(value, key);
            }
            want(table.contains("devices"), item, "island.devices is missing: how many ranks it holds");
            want(island.hosts.empty() || count == 1, item,
                 "island.count = {} with island.hosts: hosts are of one island, so give each its own entry",
                 count);
            want(file_.islands.empty() || file_.islands[0].hosts.empty() == island.hosts.empty(), item,
                 "island.hosts must stand in all islands or in none");
            for (auto const& host : island.hosts)
                want(hosts_.try_emplace(host).second, item, "island.hosts names \"{}\" twice", host);
            devices_ += std::int64_t{count} * island.devices;
            want(devices_ <= most_devices, item, "island.count: the cluster has more than {} devices",
                 most_devices);
            file_.islands.insert(file_.islands.end(), static_cast<std::size_t>(count), island);
        }
    }

    void read_links(toml::node const& node) {
        want(node.is_table(), node, "link is a section: write [link.island] or [link.network]");
        for (auto const& [name, value] : *node.as_table()) {
            auto const key = "link." + std::string(name.str());
            if (key != "link.island" && key != "link.network") unknown(value, key);
            want(value.is_table(), value, "{} is a section: set {}.bandwidth and {}.latency", key, key, key);
            (key == "link.island" ? file_.island_link : file_.network_link) = link(*value.as_table(), key);
        }
    }

    Link link(toml::table const& table, std::string const& key) const {
        Link link;
        for (auto const& [name, value] : table) {
            if (name.str() == "bandwidth") link.bandwidth = number(value, key + ".bandwidth", false);
            else if (name.str() == "latency") link.latency = number(value, key + ".latency", true);
            else unknown(value, key + "." + std::string(name.str()));
        }
        for (auto const* part : {"bandwidth", "latency"})
            want(table.contains(part), table, "{}.{} is missing", key, part);
        return link;
    }

    ClusterFile file_;
    std::map<std::string, int> hosts_;
    std::int64_t devices_ = 0;
};

}  // namespace

ClusterFile parse_cluster_file(std::string_view text, std::string const& name) {
    try {
        return ClusterReader(name).read(toml::parse(text, name));
    } catch (toml::parse_error const& e) {
        std::string what(e.description());
        std::replace(what.begin(), what.end(), '\n', ' ');
        fail<UsageError>("{}:{}: {}", name, e.source().begin.line, what.substr(0, 300));
    }
}

std::vector<int> islands_of(ClusterFile const& file, int ranks, std::vector<std::string> const& hosts) {
    std::int64_t devices = 0;
    for (auto const& island : file.islands) devices += island.devices;
    check<UsageError>(
        devices == ranks,
        "{}: island.devices: the islands have {} in all, but the world has {} {}: start as many "
        "ranks as devices, or change island.count or island.devices",
        file.name, devices, ranks, ranks == 1 ? "rank" : "ranks");
    std::vector<int> islands;
    if (hosts.empty() || file.islands[0].hosts.empty()) {
        for (int i = 0; i < static_cast<int>(file.islands.size()); ++i)
            islands.insert(islands.end(),
                           static_cast<std::size_t>(file.islands[static_cast<std::size_t>(i)].devices), i);
        return islands;
    }
    std::map<std::string, int> island_of;
    std::vector<int> counts(file.islands.size());
    for (std::size_t i = 0; i < file.islands.size(); ++i)
        for (auto const& host : file.islands[i].hosts) island_of[host] = static_cast<int>(i);
    for (std::size_t r = 0; r < hosts.size(); ++r) {
        auto const it = island_of.find(hosts[r]);
        check<UsageError>(it != island_of.end(),
                          "{}: island.hosts: rank {} runs on \"{}\", which no island has: add it", file.name,
                          r, hosts[r]);
        islands.push_back(it->second);
        ++counts[static_cast<std::size_t>(it->second)];
    }
    for (std::size_t i = 0; i < counts.size(); ++i)
        check<UsageError>(counts[i] == file.islands[i].devices,
                          "{}: island.devices: island {} has {}, but {} ranks run on its hosts: make them "
                          "equal",
                          file.name, i + 1, file.islands[i].devices, counts[i]);
    return islands;
}

std::string links_text(ClusterFile const& file) {
    std::string text;
    auto add = [&](std::string_view where, std::optional<Link> const& link) {
        if (!link) return;
        text += fmt::format("{}{} {:.4g} GB/s and {:.4g} us", text.empty() ? "" : ", ", where,
                            link->bandwidth / 1e9, link->latency * 1e6);
    };
    add("within an island", file.island_link);
    add("between islands", file.network_link);
    return text;
}

}  // namespace plait::tools
