#include "cuda/board.hpp"

#include "cuda/board_frames.hpp"
#include "cuda/meeting.hpp"
#include "plait/comm/self.hpp"
#include "plait/comm/threads.hpp"

#include "catch.hpp"

#include <atomic>
#include <cstdlib>
#include <thread>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace plait;
using namespace plait::cuda;
using Pieces = std::vector<std::string>;

namespace {

Place place(int port, int rank, int size) { return {.rank = rank, .size = size, .port = port}; }

/// A free port, which nobody answers at.
int free_port() { return BoardServer(0, 1).port(); }

/// What the server gives back for bytes that no rank sends; empty when it closes the connection.
std::string answer_to(int port, std::string const& bytes) {
    int s = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<std::uint16_t>(port));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(::connect(s, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0, "not connected");
    check(::send(s, bytes.data(), bytes.size(), MSG_NOSIGNAL) == std::ssize(bytes), "not sent");
    ::shutdown(s, SHUT_WR);
    std::string answer(64, '\0');
    auto n = ::recv(s, answer.data(), answer.size(), 0);
    ::close(s);
    answer.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return answer;
}

}  // namespace

TEST_CASE("ranks find values on the board, whoever comes first") {
    BoardServer server(0, 2);
    std::thread late([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        Board board(place(server.port(), 1, 2), 5);
        check(board.get("early", 0) == Pieces{"was here"}, "what was put before");
        board.put("late", std::string("\0a\nb", 4));
        for (int i = 0; i < 3; ++i) check(board.append("list", std::to_string(i)) == i + 1, "the count");
    });
    Board board(place(server.port(), 0, 2), 5);
    board.put("early", "was here");
    CHECK(board.get("late", 5) == Pieces{std::string("\0a\nb", 4)});
    CHECK(board.get("list", 5, 3) == Pieces{"0", "1", "2"});
    late.join();
    CHECK(board.get("list", 0.05, 4) == std::nullopt);
    board.put("list", "");
    CHECK(board.get("list", 0) == Pieces{""});
    board.erase("list");
    CHECK(board.get("list", 0) == std::nullopt);
    CHECK(board.get("large", 0) == std::nullopt);
    std::string large(5'000'000, 'x');
    board.put("large", large);
    CHECK(board.get("large", 0) == Pieces{large});
}

TEST_CASE("a rank that vanishes is news, one that says goodbye is not") {
    BoardServer server(0, 3);
    Board board(place(server.port(), 0, 3), 5);
    { Board leaves(place(server.port(), 1, 3), 5); }
    {
        Board listener(place(server.port(), 2, 3), 5, Board::Role::listener);
        listener.vanish();
    }
    CHECK(board.get(Board::news, 0.1) == std::nullopt);
    Board killed(place(server.port(), 2, 3), 5);
    killed.vanish();
    CHECK(board.get(Board::news, 5) == Pieces{"lost 2"});
    CHECK_THROWS_WITH(killed.put("a", "b"), ContainsSubstring("was left"));
}

TEST_CASE("a call of the board can be ended, and ends when rank 0 does") {
    auto server = std::make_unique<BoardServer>(0, 1);
    server->patience = 0;
    Board board(place(server->port(), 0, 1), 5);
    std::thread other([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        board.interrupt();
    });
    CHECK_THROWS_WITH(board.get("never", 60), ContainsSubstring("has gone: see what rank 0 says"));
    other.join();
    Board second(place(server->port(), 0, 1), 5, Board::Role::listener);
    server.reset();
    CHECK_THROWS_WITH(second.put("a", "b"), ContainsSubstring("has gone"));
}

TEST_CASE("ranks that disagree on who they are are told") {
    BoardServer server(0, 2);
    Board board(place(server.port(), 0, 2), 5);
    CHECK_THROWS_WITH(Board(place(server.port(), 0, 2), 5),
                      "two processes are rank 0: give each its own RANK");
    CHECK_THROWS_WITH(Board(place(server.port(), 1, 4), 5),
                      "rank 1 was started with WORLD_SIZE=4, rank 0 with 2: start all with one");
    CHECK_THROWS_AS(Board(place(server.port(), 2, 2), 5), UsageError);
    CHECK_THROWS_WITH(
        BoardServer(server.port(), 2),
        fmt::format("rank 0 cannot listen at port {}: Address already in use; set MASTER_PORT to "
                    "a free one",
                    server.port()));
    auto port = free_port();
    CHECK_THROWS_WITH(
        Board(place(port, 1, 2), 0.2),
        fmt::format("rank 1 cannot reach rank 0 at 127.0.0.1:{} after 0.2 s (Connection refused): "
                    "is it running, and are MASTER_ADDR and MASTER_PORT its own?",
                    port));
    // Several addresses are tried.
    Board by_name({.rank = 1, .size = 2, .host = "127.0.0.2.invalid,127.0.0.1", .port = server.port()}, 5);
    by_name.put("a", "b");
    CHECK(board.get("a", 5) == Pieces{"b"});
}

TEST_CASE("rubbish sent to the board harms nobody") {
    BoardServer server(0, 1);
    Board board(place(server.port(), 0, 1), 5);
    std::string cut(1, static_cast<char>(frames::put)), frame;
    frames::add(cut, 1000u);
    frames::add(frame, std::string_view(cut));
    std::string early(1, static_cast<char>(frames::put)), early_frame;
    frames::add(early, std::string_view("a"));
    frames::add(early_frame, std::string_view(early));
    for (auto const& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(1000, '\xff'),
                              std::string(8, '\0'), frame, early_frame, std::string("ab")})
        CHECK(answer_to(server.port(), bytes).empty());
    board.put("a", "well");
    CHECK(board.get("a", 0) == Pieces{"well"});
    CHECK(board.get(Board::news, 0) == std::nullopt);
}

TEST_CASE("what answers at the port may be no board") {
    int s = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(::bind(s, reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(::listen(s, 1) == 0);
    ::getsockname(s, reinterpret_cast<sockaddr*>(&at), &size);
    std::thread other([&] {
        int c = ::accept(s, nullptr, nullptr);
        std::string text = "HTTP/1.1 400 Bad Request\r\n\r\n";
        [[maybe_unused]] auto n = ::send(c, text.data(), text.size(), MSG_NOSIGNAL);
        ::close(c);
    });
    CHECK_THROWS_WITH(Board(place(ntohs(at.sin_port), 1, 2), 2), ContainsSubstring("is no board of Plait"));
    other.join();
    ::close(s);
}

TEST_CASE("a process finds its place in the environment") {
    auto with = [](std::vector<std::pair<char const*, char const*>> const& variables) {
        for (auto [name, value] : variables) ::setenv(name, value, 1);
        struct Unset {
            ~Unset() {
                for (auto const* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"})
                    ::unsetenv(name);
            }
        } unset;
        return place_of_environment();
    };
    auto alone = with({});
    CHECK((alone.rank == 0 && alone.size == 1 && alone.host == "127.0.0.1" && alone.port == 29500));
    auto one = with({{"RANK", "5"},
                     {"WORLD_SIZE", "8"},
                     {"LOCAL_RANK", "1"},
                     {"MASTER_ADDR", "node0"},
                     {"MASTER_PORT", "1234"}});
    CHECK((one.rank == 5 && one.size == 8 && one.local_rank == 1 && one.host == "node0" && one.port == 1234));
    CHECK_THROWS_WITH(with({{"RANK", "0"}}), "RANK is set without WORLD_SIZE: set both, or neither");
    CHECK_THROWS_WITH(with({{"RANK", "2"}, {"WORLD_SIZE", "2"}}),
                      "RANK=2 of WORLD_SIZE=2: ranks are counted from 0");
    CHECK_THROWS_WITH(with({{"RANK", "one"}, {"WORLD_SIZE", "2"}}),
                      "RANK=one: should be a number from 0 to 1048576");
    CHECK_THROWS_AS(with({{"MASTER_PORT", "99999"}}), UsageError);
}

TEST_CASE("ranks of a communicator that is there find the board over it") {
    run_ranks(3, [](Communicator& world) {
        auto meeting = meet_over(world);
        check(meeting.place.rank == world.rank() && meeting.place.size == 3, "its place");
        check(meeting.place.local_rank == world.rank(), "all are on this host");
        check((meeting.server != nullptr) == (world.rank() == 0), "rank 0 serves");
        Board board(meeting.place, 5);
        check(board.append("here", "") <= 3 && board.get("here", 5, 3), "all have come");
        world.barrier().wait();
    });
    SelfCommunicator alone;
    CHECK(!meet_over(alone).server);
}
