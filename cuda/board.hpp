#pragma once

#include "plait/core/check.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plait::cuda {

/// Where a process stands among those that a launcher started.
struct Place {
    int rank = 0, size = 1;
    int local_rank = 0;              // among those of this host: which GPU is its own
    std::string host = "127.0.0.1";  // where rank 0 keeps the board; several, divided by commas, are tried
    int port = 29500;
};
/// By RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; without them, one rank. Throws UsageError.
Place place_of_environment();

/// What ranks tell each other beside their GPUs, at any time and however stuck those are: values under keys,
/// which rank 0 keeps in a thread of its own. A rank whose process ends without a word is news (see `lost`).
class BoardServer {
  public:
    /// Port 0 takes a free one. Throws UsageError where the port is taken.
    BoardServer(int port, int size);
    /// Stays until all ranks have said goodbye, or vanished, or `patience` is over.
    ~BoardServer();
    BoardServer(BoardServer const&) = delete;
    BoardServer& operator=(BoardServer const&) = delete;

    int port() const;
    double patience = 30;  // seconds

  private:
    class Server;
    std::unique_ptr<Server> server_;
};

/// One rank's access to the board. One thread at a time calls it.
class Board {
  public:
    /// Whose end is the end of its rank, and whose is not.
    enum class Role : std::uint32_t { rank, listener };
    /// The key to which the server adds "lost R" when rank R vanishes.
    static constexpr std::string_view news = "news";

    /// Tries for `seconds`. Throws UsageError where the ranks disagree on who they are, Error where nobody
    /// answers.
    Board(Place const& place, double seconds, Role role = Role::rank);
    /// Says goodbye.
    ~Board();
    Board(Board const&) = delete;
    Board& operator=(Board const&) = delete;

    void put(std::string_view key, std::string_view value);
    /// Adds a piece to the value, and returns how many there are.
    int append(std::string_view key, std::string_view piece);
    void erase(std::string_view key);
    /// The pieces of the value (of put: one) when there are `pieces` or more, for which it waits at most
    /// `seconds`; else nothing.
    std::optional<std::vector<std::string>> get(std::string_view key, double seconds, int pieces = 1);
    /// Ends the call that another thread makes, by an Error.
    void interrupt() noexcept;
    /// Leaves as a process that is killed does.
    void vanish() noexcept;

  private:
    std::string ask(std::uint8_t op, std::string_view key, std::string_view rest, double seconds);

    std::string where_;
    int socket_ = -1;
};

}  // namespace plait::cuda
