#include "cuda/board.hpp"
#include "cuda/board_frames.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <list>
#include <map>
#include <set>
#include <thread>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace plait::cuda {

/// One thread that serves all connections, and never waits for one of them.
class BoardServer::Server {
  public:
    Server(int port, int size) : size_(size) {
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        check(listener_ >= 0, "no socket for the board: {}", std::strerror(errno));
        int on = 1;
        ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_ANY);
        at.sin_port = htons(static_cast<std::uint16_t>(port));
        socklen_t length = sizeof at;
        if (::bind(listener_, reinterpret_cast<sockaddr*>(&at), length) || ::listen(listener_, 1024)) {
            int error = errno;
            ::close(listener_);
            fail<UsageError>("rank 0 cannot listen at port {}: {}; set MASTER_PORT to a free one", port,
                             std::strerror(error));
        }
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &length);
        port_ = ntohs(at.sin_port);
        if (::pipe(wake_)) {
            ::close(listener_);
            fail("no pipe for the board: {}", std::strerror(errno));
        }
        thread_ = std::thread([this] { serve(); });
    }
    ~Server() {
        for (int s : {listener_, wake_[0], wake_[1]}) ::close(s);
    }
    void end(double patience) {
        closing_ = true;
        patience_ = patience;
        [[maybe_unused]] auto n = ::write(wake_[1], "", 1);
        thread_.join();
    }
    int port() const { return port_; }

  private:
    using Clock = std::chrono::steady_clock;
    struct Parked {  // a get that waits
        std::string key;
        std::size_t pieces = 0;
        Clock::time_point end;
    };
    struct Connection {
        int socket = -1;
        int rank = -1;  // once it has said hello
        Board::Role role = Board::Role::rank;
        bool left = false, closed = false;
        std::string in{}, out{};
        std::optional<Parked> parked{};
    };

    void serve() {
        Clock::time_point last = Clock::time_point::max();
        for (;;) {
            if (closing_ && last == Clock::time_point::max())
                last = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                          std::chrono::duration<double>(patience_.load()));
            bool some = std::any_of(connections_.begin(), connections_.end(),
                                    [](auto const& c) { return c.rank >= 0; });
            if (closing_ && (!some || Clock::now() >= last)) break;
            auto until = last;
            std::vector<pollfd> polled{{listener_, POLLIN, 0}, {wake_[0], POLLIN, 0}};
            for (auto const& c : connections_) {
                polled.push_back(
                    {c.socket, static_cast<short>(c.out.empty() ? POLLIN : POLLIN | POLLOUT), 0});
                if (c.parked) until = std::min(until, c.parked->end);
            }
            int wait = -1;
            if (until != Clock::time_point::max())
                wait = static_cast<int>(std::clamp<std::int64_t>(
                    std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count(), 0, 60'000));
            ::poll(polled.data(), polled.size(), wait);
            char rubbish[64];
            if (polled[1].revents) [[maybe_unused]]
                auto n = ::read(wake_[0], rubbish, sizeof rubbish);
            std::size_t i = 2;
            for (auto& c : connections_) {
                auto events = polled[i++].revents;
                if (events & (POLLIN | POLLHUP | POLLERR)) hear(c);
                if (events & POLLOUT) flush(c);
            }
            for (auto& c : connections_)
                if (c.parked && Clock::now() >= c.parked->end) {
                    c.parked.reset();
                    answer(c, frames::not_there, "");
                }
            bury();
            if (polled[0].revents) greet();
        }
        for (auto const& c : connections_) ::close(c.socket);
    }

    void greet() {
        for (;;) {
            int s = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (s < 0) return;
            int on = 1;
            ::setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            ::setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
            connections_.push_back({.socket = s});
        }
    }

    void bury() {
        for (auto it = connections_.begin(); it != connections_.end();) {
            if (!it->closed) {
                ++it;
                continue;
            }
            ::close(it->socket);
            if (it->rank >= 0) {
                present_.erase({it->rank, it->role});
                if (!it->left && it->role == Board::Role::rank)
                    add(std::string(Board::news), fmt::format("lost {}", it->rank));
            }
            it = connections_.erase(it);
        }
    }

    void hear(Connection& c) {
        char bytes[65536];
        for (;;) {
            auto n = ::recv(c.socket, bytes, sizeof bytes, 0);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 && errno == EAGAIN) break;
            if (n <= 0) {
                c.closed = true;
                return;
            }
            c.in.append(bytes, static_cast<std::size_t>(n));
        }
        while (c.in.size() >= 4 && !c.closed) {
            auto size = frames::Reader(c.in).number();
            if (size < 5 || size > (c.rank < 0 ? frames::most_before_hello : frames::most)) {
                c.closed = true;  // no rank of ours
                return;
            }
            if (c.in.size() - 4 < size) return;
            try {
                serve(c, std::string_view(c.in).substr(4, size));
            } catch (Error const&) {
                c.closed = true;
                return;
            }
            c.in.erase(0, 4 + std::size_t{size});
        }
    }

    void serve(Connection& c, std::string_view frame) {
        frames::Reader reader(frame);
        auto op = reader.byte();
        std::string key(reader.piece());
        check((op == frames::hello) == (c.rank < 0) && !c.parked, "a frame out of turn");
        switch (op) {
            case frames::hello:
                return meet(c, key, reader);
            case frames::put:
                values_[key] = {std::string(reader.rest())};
                answer(c, frames::fine, "");
                return changed(key);
            case frames::append: {
                std::string count;
                frames::add(count, static_cast<std::uint32_t>(values_[key].size() + 1));
                answer(c, frames::fine, count);
                return add(key, std::string(reader.rest()));
            }
            case frames::get: {
                auto pieces = reader.number(), milliseconds = reader.number();
                if (tell(c, key, pieces)) return;
                if (!milliseconds) return answer(c, frames::not_there, "");
                c.parked = {key, pieces, Clock::now() + std::chrono::milliseconds(milliseconds)};
                return;
            }
            case frames::erase:
                values_.erase(key);
                return answer(c, frames::fine, "");
            case frames::bye:
                c.left = true;
                return answer(c, frames::fine, "");
            default:
                fail("no op {}", op);
        }
    }

    void meet(Connection& c, std::string const& key, frames::Reader& reader) {
        check(key == frames::magic, "no rank of ours");
        auto rank = static_cast<int>(reader.number()), size = static_cast<int>(reader.number());
        auto role = static_cast<Board::Role>(reader.number());
        std::string why;
        if (size != size_)
            why = fmt::format("rank {} was started with WORLD_SIZE={}, rank 0 with {}: start all with one",
                              rank, size, size_);
        else if (rank < 0 || rank >= size) why = fmt::format("there is no rank {} of {}", rank, size);
        else if (present_.contains({rank, role}))
            why = fmt::format("two processes are rank {}: give each its own RANK", rank);
        if (!why.empty()) return answer(c, frames::refused, why);
        c.rank = rank, c.role = role;
        present_.insert({rank, role});
        answer(c, frames::fine, "");
    }

    void add(std::string const& key, std::string piece) {
        values_[key].push_back(std::move(piece));
        changed(key);
    }

    /// Answers those who waited for it.
    void changed(std::string const& key) {
        for (auto& c : connections_)
            if (c.parked && c.parked->key == key && tell(c, key, c.parked->pieces)) c.parked.reset();
    }

    bool tell(Connection& c, std::string const& key, std::size_t pieces) {
        auto it = values_.find(key);
        if (it == values_.end() || it->second.size() < pieces) return false;
        std::string value;
        frames::add(value, static_cast<std::uint32_t>(it->second.size()));
        for (auto const& piece : it->second) frames::add(value, std::string_view(piece));
        answer(c, frames::fine, value);
        return true;
    }

    void answer(Connection& c, frames::Status status, std::string const& rest) {
        frames::add(c.out, static_cast<std::uint32_t>(rest.size() + 1));
        c.out += static_cast<char>(status);
        c.out += rest;
        flush(c);
    }

    void flush(Connection& c) {
        while (!c.out.empty()) {
            auto n = ::send(c.socket, c.out.data(), c.out.size(), MSG_NOSIGNAL);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 && errno == EAGAIN) return;
            if (n < 0) {
                c.closed = true;
                return;
            }
            c.out.erase(0, static_cast<std::size_t>(n));
        }
    }

    int const size_;
    int port_ = 0, listener_ = -1, wake_[2] = {-1, -1};
    std::list<Connection> connections_;
    std::map<std::string, std::vector<std::string>> values_;
    std::set<std::pair<int, Board::Role>> present_;
    std::atomic<bool> closing_ = false;
    std::atomic<double> patience_ = 0;
    std::thread thread_;
};

BoardServer::BoardServer(int port, int size) : server_(std::make_unique<Server>(port, size)) {}
BoardServer::~BoardServer() { server_->end(patience); }
int BoardServer::port() const { return server_->port(); }

}  // namespace plait::cuda
