#include "cuda/meeting.hpp"

#include <algorithm>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

namespace plait::cuda {

std::string host_name() {
    char name[256] = "";
    ::gethostname(name, sizeof name - 1);
    return name;
}

namespace {

/// The addresses that others can reach this host at, its own last.
std::string addresses() {
    std::string all;
    ifaddrs* first = nullptr;
    if (::getifaddrs(&first) == 0) {
        for (auto* one = first; one; one = one->ifa_next) {
            if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET || !(one->ifa_flags & IFF_UP) ||
                (one->ifa_flags & IFF_LOOPBACK))
                continue;
            char text[INET_ADDRSTRLEN];
            auto const* in = reinterpret_cast<sockaddr_in const*>(one->ifa_addr);
            if (::inet_ntop(AF_INET, &in->sin_addr, text, sizeof text)) all += std::string(text) + ",";
        }
        ::freeifaddrs(first);
    }
    return all + "127.0.0.1";
}

}  // namespace

Meeting meet_by_environment() {
    Meeting m{.place = place_of_environment(), .server = nullptr};
    if (m.place.rank == 0 && m.place.size > 1) {
        m.server = std::make_unique<BoardServer>(m.place.port, m.place.size);
        m.place.host = "127.0.0.1";
    }
    return m;
}

Meeting meet_over(Communicator& world) {
    Meeting m;
    m.place.rank = world.rank(), m.place.size = world.size();
    if (world.size() == 1) return m;
    // Where rank 0 listens, and on which host each rank is.
    constexpr std::size_t most = 1024;
    std::vector<std::uint8_t> where(most), host(256),
        hosts(host.size() * static_cast<std::size_t>(world.size()));
    if (world.rank() == 0) {
        m.server = std::make_unique<BoardServer>(0, world.size());
        auto text = fmt::format("{} {}", m.server->port(), addresses());
        check(text.size() < most, "this host has too many addresses");
        std::copy(text.begin(), text.end(), where.begin());
    }
    world.broadcast(std::span(where), 0).wait();
    std::string text(reinterpret_cast<char const*>(where.data()));
    auto const blank = text.find(' ');
    m.place.port = std::stoi(text.substr(0, blank));
    m.place.host = text.substr(blank + 1);
    auto const name = host_name();
    std::copy_n(name.begin(), std::min(name.size(), host.size()), host.begin());
    world.all_gather(std::span(host), std::span(hosts)).wait();
    for (int r = 0; r < world.rank(); ++r)
        m.place.local_rank += std::equal(host.begin(), host.end(),
                                         hosts.begin() + r * static_cast<std::ptrdiff_t>(host.size()));
    return m;
}

}  // namespace plait::cuda
