#include "cuda/board.hpp"

#include "cuda/board_frames.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <thread>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace plait::cuda {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_until(Clock::time_point end) {
    return std::chrono::duration<double>(end - Clock::now()).count();
}
Clock::time_point after(double seconds) {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

std::optional<int> number_of(char const* name, int least, int most) {
    char const* text = std::getenv(name);
    if (!text || !*text) return std::nullopt;
    char* end = nullptr;
    errno = 0;
    auto n = std::strtol(text, &end, 10);
    check<UsageError>(!errno && !*end && n >= least && n <= most, "{}={}: should be a number from {} to {}",
                      name, text, least, most);
    return static_cast<int>(n);
}

/// Whether the socket can be read or written before `end`.
bool wait_for(int socket, short what, Clock::time_point end) {
    for (;;) {
        pollfd p{socket, what, 0};
        auto left = std::max(0.0, seconds_until(end));
        int n = ::poll(&p, 1, static_cast<int>(std::min(left * 1000 + 1, 1e6)));
        if (n > 0) return true;
        if (n < 0 && errno != EINTR) return false;
        if (Clock::now() >= end) return false;
    }
}

/// A socket that is connected, or -1 and `why`.
int connected(addrinfo const& to, Clock::time_point end, std::string& why) {
    int s = ::socket(to.ai_family, to.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to.ai_protocol);
    if (s < 0) return why = std::strerror(errno), -1;
    int error = ::connect(s, to.ai_addr, to.ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        // Another address may answer where one that is not reached stays silent.
        auto last = std::min(end, after(3));
        socklen_t size = sizeof error;
        if (!wait_for(s, POLLOUT, last)) error = ETIMEDOUT;
        else ::getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (!error) return s;
    why = std::strerror(error);
    ::close(s);
    return -1;
}

int try_hosts(Place const& place, Clock::time_point end, std::string& why) {
    for (std::size_t at = 0; at <= place.host.size();) {
        auto comma = std::min(place.host.find(',', at), place.host.size());
        auto host = place.host.substr(at, comma - at);
        at = comma + 1;
        addrinfo hints{}, *all = nullptr;
        hints.ai_family = AF_UNSPEC;
        hints.ai_socktype = SOCK_STREAM;
        if (int e = ::getaddrinfo(host.c_str(), std::to_string(place.port).c_str(), &hints, &all)) {
            why = ::gai_strerror(e);
            continue;
        }
        int s = -1;
        for (auto* one = all; one && s < 0; one = one->ai_next) s = connected(*one, end, why);
        ::freeaddrinfo(all);
        if (s >= 0) return s;
    }
    return -1;
}

}  // namespace

Place place_of_environment() {
    Place p;
    constexpr int many = 1 << 20;
    auto rank = number_of("RANK", 0, many), size = number_of("WORLD_SIZE", 1, many);
    check<UsageError>(rank.has_value() == size.has_value(), "{} is set without {}: set both, or neither",
                      rank ? "RANK" : "WORLD_SIZE", rank ? "WORLD_SIZE" : "RANK");
    p.rank = rank.value_or(0), p.size = size.value_or(1);
    check<UsageError>(p.rank < p.size, "RANK={} of WORLD_SIZE={}: ranks are counted from 0", p.rank, p.size);
    p.local_rank = number_of("LOCAL_RANK", 0, many).value_or(0);
    if (char const* host = std::getenv("MASTER_ADDR"); host && *host) p.host = host;
    p.port = number_of("MASTER_PORT", 1, 65535).value_or(p.port);
    return p;
}

Board::Board(Place const& place, double seconds, Role role)
    : where_(fmt::format("{}:{}", place.host, place.port)) {
    auto const end = after(seconds);
    std::string why = "no address";
    while ((socket_ = try_hosts(place, end, why)) < 0) {
        check(Clock::now() < end,
              "rank {} cannot reach rank 0 at {} after {:.3g} s ({}): is it running, and are MASTER_ADDR and "
              "MASTER_PORT its own?",
              place.rank, where_, seconds, why);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    int on = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(socket_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    std::string who;
    for (auto n : {static_cast<std::uint32_t>(place.rank), static_cast<std::uint32_t>(place.size),
                   static_cast<std::uint32_t>(role)})
        frames::add(who, n);
    try {
        ask(frames::hello, frames::magic, who, std::max(1.0, seconds_until(end)));
    } catch (...) {
        vanish();
        throw;
    }
}

Board::~Board() {
    if (socket_ < 0) return;
    try {
        ask(frames::bye, "", "", 5);
    } catch (...) {}
    vanish();
}

void Board::vanish() noexcept {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
}

void Board::interrupt() noexcept { ::shutdown(socket_, SHUT_RDWR); }

std::string Board::ask(std::uint8_t op, std::string_view key, std::string_view rest, double seconds) {
    auto const end = after(seconds);
    auto gone = [&](char const* how) {
        fail("the board at {}, which rank 0 keeps, {}: see what rank 0 says", where_, how);
    };
    if (socket_ < 0) gone("was left");
    std::string body(1, static_cast<char>(op)), frame;
    frames::add(body, key);
    body += rest;
    frames::add(frame, std::string_view(body));
    for (std::size_t sent = 0; sent < frame.size();) {
        if (!wait_for(socket_, POLLOUT, end)) gone("does not listen");
        auto n = ::send(socket_, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) gone("has gone");
        if (n > 0) sent += static_cast<std::size_t>(n);
    }
    auto read = [&](std::size_t size) {
        std::string bytes(size, '\0');
        for (std::size_t got = 0; got < size;) {
            if (!wait_for(socket_, POLLIN, end)) gone("does not answer");
            auto n = ::recv(socket_, bytes.data() + got, size - got, 0);
            if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) gone("has gone");
            if (n > 0) got += static_cast<std::size_t>(n);
        }
        return bytes;
    };
    auto const head = read(4);
    auto size = frames::Reader(head).number();
    check<UsageError>(size >= 1 && size <= frames::most,
                      "what answers at {} is no board of Plait: set MASTER_PORT to another port", where_);
    auto answer = read(size);
    if (answer[0] == frames::refused) fail<UsageError>("{}", answer.substr(1));
    return answer;
}

void Board::put(std::string_view key, std::string_view value) { ask(frames::put, key, value, 60); }
void Board::erase(std::string_view key) { ask(frames::erase, key, "", 60); }

int Board::append(std::string_view key, std::string_view piece) {
    auto answer = ask(frames::append, key, piece, 60);
    return static_cast<int>(frames::Reader(std::string_view(answer).substr(1)).number());
}

std::optional<std::vector<std::string>> Board::get(std::string_view key, double seconds, int pieces) {
    std::string rest;
    frames::add(rest, static_cast<std::uint32_t>(pieces));
    frames::add(rest, static_cast<std::uint32_t>(std::clamp(seconds, 0.0, 1e6) * 1000));
    auto answer = ask(frames::get, key, rest, seconds + 60);
    if (answer[0] == frames::not_there) return std::nullopt;
    frames::Reader reader(std::string_view(answer).substr(1));
    std::vector<std::string> value(reader.number());
    for (auto& piece : value) piece = reader.piece();
    return value;
}

}  // namespace plait::cuda
