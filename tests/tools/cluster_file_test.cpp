#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/cluster_file.hpp"

#include "../../src/tools/rank_places.hpp"
#include "catch.hpp"
#include "scratch.hpp"

using namespace plait;
using namespace plait::tools;

namespace {

std::string error_of(std::string const& toml) {
    auto message = message_of<UsageError>([&] { parse_cluster_file(toml, "a.toml"); });
    CHECK_FALSE(contains(message, "\n"));
    return message;
}

std::string misfit_of(ClusterFile const& file, int ranks, std::vector<std::string> const& hosts = {}) {
    return message_of<UsageError>([&] { islands_of(file, ranks, hosts); });
}

Config with_file(std::string const& path) {
    return load_config("", {{"run.cluster_file", path, "--run.cluster_file"}});
}

std::vector<std::string> const hosts{"b", "a", "b", "a"};
std::string const pairs =
    "[[island]]\ndevices = 2\nhosts = [\"a\"]\n[[island]]\ndevices = 2\nhosts = [\"b\", \"c\"]\n";

}  // namespace

TEST_CASE("a cluster file has islands and links") {
    auto const file = parse_cluster_file(R"([[island]]
count = 2
devices = 4
[[island]]
devices = 1
[link.island]
bandwidth = 900e9
latency = 0
[link.network]
bandwidth = 50_000_000_000
latency = 5e-6
)",
                                         "a.toml");
    REQUIRE(file.islands.size() == 3);
    CHECK((file.islands[1].devices == 4 && file.islands[2].devices == 1 && file.islands[0].hosts.empty()));
    REQUIRE((file.island_link && file.network_link));
    CHECK((file.island_link->bandwidth == 900e9 && file.island_link->latency == 0));
    CHECK((file.network_link->bandwidth == 50e9 && file.network_link->latency == 5e-6));
    CHECK(links_text(file) == "within an island 900 GB/s and 0 us, between islands 50 GB/s and 5 us");
    CHECK(islands_of(file, 9, {}) == std::vector<int>{0, 0, 0, 0, 1, 1, 1, 1, 2});
    CHECK(islands_of(file, 9, std::vector<std::string>(9, "any")).back() == 2);
    CHECK(links_text(parse_cluster_file("[[island]]\ndevices = 1", "a.toml")).empty());
}

TEST_CASE("ranks go to the islands of their hosts") {
    auto const file = parse_cluster_file(pairs, "a.toml");
    CHECK(islands_of(file, 4, hosts) == std::vector<int>{1, 0, 1, 0});
    CHECK(islands_of(file, 4, {"c", "a", "b", "a"}) == std::vector<int>{1, 0, 1, 0});
    CHECK(islands_of(file, 4, {}) == std::vector<int>{0, 0, 1, 1});
    CHECK(misfit_of(file, 4, {"a", "d", "b", "b"}) ==
          "a.toml: island.hosts: rank 1 runs on \"d\", which no island has: add it");
    CHECK(contains(misfit_of(file, 4, {"a", "a", "a", "b"}),
                   "a.toml: island.devices: island 1 has 2, but 3 ranks run on its hosts"));
    CHECK(contains(misfit_of(file, 3),
                   "a.toml: island.devices: the islands have 4 in all, but the world has 3 ranks"));
}

TEST_CASE("what a cluster file has wrong is named with file, line and key") {
    CHECK(error_of("") == "a.toml: no island: write [[island]] with its devices");
    CHECK(contains(error_of("[[island]\n"), "a.toml:1: "));
    CHECK(contains(error_of("island = 3"), "a.toml:1: island is a list of tables"));
    CHECK(contains(error_of("island = [{devices = 1}, 3]"), "a.toml:1: island is a list of tables"));
    CHECK(error_of("[[island]]\n\ndevice = 2") ==
          "a.toml:3: unknown key island.device: the nearest is island.devices");
    CHECK(error_of("[[island]]\ndevices = 1\n[link.islands]\nbandwidth = 1") ==
          "a.toml:3: unknown key link.islands: the nearest is link.island.latency");
    CHECK(error_of("[link.network]\nlatecny = 1") ==
          "a.toml:2: unknown key link.network.latecny: the nearest is link.network.latency");
    CHECK(
        contains(error_of("[cluster]\nislands = 1"), "a.toml:1: unknown key cluster: the nearest is island"));
    CHECK(error_of("[[island]]\ncount = 2") ==
          "a.toml:1: island.devices is missing: how many ranks it holds");
    for (auto const* wrong : {"0", "-1", "1.5", "\"2\"", "99999999999"})
        CHECK(contains(error_of(fmt::format("[[island]]\ndevices = {}", wrong)),
                       "a.toml:2: island.devices must be an integer from 1 to 1048576"));
    CHECK(contains(error_of("[[island]]\ncount = 1048576\ndevices = 2"), "more than 1048576 devices"));
    for (auto const* wrong : {"0", "-1", "inf", "nan", "\"2\""})
        CHECK(contains(error_of(fmt::format("[link.island]\nlatency = 0\nbandwidth = {}", wrong)),
                       "a.toml:3: link.island.bandwidth must be a number above 0"));
    CHECK(contains(error_of("[link.island]\nlatency = -1\nbandwidth = 1"),
                   "link.island.latency must be a number from 0"));
    CHECK(contains(error_of("[link.island]\nbandwidth = 1"), "link.island.latency is missing"));
    CHECK(contains(error_of("link = 1"), "a.toml:1: link is a section"));
    CHECK(contains(error_of("link.island = 1"), "a.toml:1: link.island is a section"));
    for (auto const* wrong : {"\"a\"", "[]", "[1]", "[\"\"]"})
        CHECK(contains(error_of(fmt::format("[[island]]\ndevices = 1\nhosts = {}", wrong)),
                       "a.toml:3: island.hosts must be a list of names of hosts"));
    CHECK(contains(error_of("[[island]]\ncount = 2\ndevices = 1\nhosts = [\"a\"]"),
                   "island.count = 2 with island.hosts"));
    CHECK(contains(error_of(pairs + "[[island]]\ndevices = 1"), "must stand in all islands or in none"));
    CHECK(contains(error_of(pairs + "[[island]]\ndevices = 1\nhosts = [\"c\"]"), "names \"c\" twice"));
}

TEST_CASE("a mesh is placed by file, by hosts, or on one island") {
    using Order = std::vector<int>;
    auto const none = load_config("", {});
    MeshSizes const sizes{{"data", 2}, {"tensor", 2}};
    auto places = place_world(none, sizes, {});
    CHECK((places.order == Order{0, 1, 2, 3} && places.note.empty()));
    CHECK(places.text() == "1 of 4 ranks: tensor and data lie within");
    CHECK(place_world(none, {}, {}).text() == "1 of 1 rank");

    places = place_world(none, sizes, hosts);
    CHECK((places.order == Order{0, 2, 1, 3} && places.note.empty()));
    CHECK(places.text() == "2 of 2 ranks, by hosts: tensor lies within, data crosses");
    places = place_world(none, {{"pipeline", 2}, {"tensor", 4}}, {"a", "a", "a", "a", "a", "a", "b", "b"});
    CHECK(places.order == Order{0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(places.text() == "1 of 6 ranks and 1 of 2 ranks, by hosts: tensor and pipeline cross");
    CHECK(places.note == "tensor = 4 crosses islands (1 of 6 ranks and 1 of 2 ranks): a size of 2 would not");
    CHECK(place_world(none, {{"tensor", 2}}, {"a", "b"}).note ==
          "tensor = 2 crosses islands (2 of 1 rank): no size above 1 fits all");
    CHECK(place_world(none, {{"data", 2}}, {"a", "b"}).note.empty());

    ScratchFolder folder;
    auto const path = (folder / "pairs.toml").string();
    put_text(folder / "pairs.toml", pairs);
    places = place_world(with_file(path), sizes, hosts);
    CHECK(places.order == Order{0, 2, 1, 3});
    CHECK(places.text() == fmt::format("2 of 2 ranks, by {}: tensor lies within, data crosses", path));
    CHECK(contains(message_of<UsageError>([&] { place_world(with_file(path), {{"data", 2}}, {}); }), path));
    CHECK(contains(message_of<UsageError>([&] { place_world(with_file("no/such.toml"), sizes, {}); }),
                   "run.cluster_file = \"no/such.toml\" (command line): "));
    for (auto const* example : {"two-islands", "gb200-nvl72"}) {
        auto const file = fmt::format("{}/examples/clusters/{}.toml", SOURCE_DIR, example);
        MeshSizes const all{{"data", std::string(example) == "two-islands" ? 2 : 288}, {"tensor", 2}};
        CHECK(contains(place_world(with_file(file), all, {}).text(), "tensor lies within, data crosses"));
    }
}

TEST_CASE("before processes can talk, a launcher's ranks of this host stand for all hosts") {
    using Hosts = std::vector<std::string>;
    CHECK(planned_hosts({4, 0, 2, "OMPI_COMM_WORLD_SIZE"}, 4) == Hosts{"0", "0", "1", "1"});
    CHECK(planned_hosts({}, 8).empty());
    CHECK(planned_hosts({}, 1) == Hosts{"0"});
}

#endif
