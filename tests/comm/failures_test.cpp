#include <atomic>
#include <chrono>
#include <thread>

#include "catch.hpp"
#include "comm/verbs.hpp"
#include "plait/comm/threads.hpp"

using namespace plait;
using namespace std::chrono_literals;

namespace {
/// What each rank's wait throws.
std::vector<std::string> failures(int size, std::function<void(Communicator&)> const& f, double limit = 30) {
    std::vector<std::string> seen(static_cast<std::size_t>(size));
    try {
        run_ranks(size,
                  [&](Communicator& c) {
                      try {
                          f(c);
                      } catch (CommunicationError const& e) {
                          seen[static_cast<std::size_t>(c.rank())] = e.what();
                      }
                  },
                  {.limit_seconds = limit, .hung = [](std::string const&) {}});
    } catch (Error const& e) {
        seen.push_back(e.what());
    }
    return seen;
}

std::string failure(int size, std::function<void(Communicator&)> const& f) {
    auto seen = failures(size, f);
    for (auto const& s : seen) CHECK(s == seen[0]);
    return seen[0];
}
}  // namespace

TEST_CASE("a mismatched collective names rank, op and number on every rank", "[alone]") {
    std::vector<float> x(64), y(256);
    CHECK(failure(2, [](Communicator& c) {
              std::vector<float> x(64), y(128);
              for (int i = 0; i < 11; ++i) c.all_reduce(std::span(x), Combine::sum).wait();
              if (c.rank() == 1) c.all_gather(std::span(x), std::span(y)).wait();
              else c.all_reduce(std::span(x), Combine::sum).wait();
          }) == "world: rank 1 calls all_gather of 64 f32 as call 12, rank 0 all_reduce of 64 f32");
    CHECK(failure(4, [](Communicator& c) {
              std::vector<float> x(c.rank() == 0 ? 63 : 64);
              c.all_reduce(std::span(x), Combine::sum).wait();
          }) == "world: rank 0 calls all_reduce of 63 f32 as call 1, rank 1 all_reduce of 64 f32");
    CHECK(failure(3,
                  [](Communicator& c) {
                      std::vector<float> x(4);
                      c.broadcast(std::span(x), c.rank() == 2 ? 1 : 0).wait();
                  }) ==
          "world: rank 2 calls broadcast of 4 f32 from rank 1 as call 1, rank 0 broadcast of 4 f32 from rank "
          "0");
    CHECK(failure(2, [](Communicator& c) {
              std::vector<float> x(4);
              c.all_reduce(std::span(x), c.rank() ? Combine::max : Combine::sum).wait();
          }) == "world: rank 1 calls all_reduce of 4 f32 by max as call 1, rank 0 all_reduce of 4 f32");
    CHECK(
        failure(2,
                [](Communicator& c) {
                    std::vector<float> x(4);
                    c.all_reduce(std::span(x), Combine::sum, c.rank() ? 8 : 7).wait();
                }) ==
        "world: rank 1 calls all_reduce of 4 f32 at site 8 as call 1, rank 0 all_reduce of 4 f32 at site 7");
}

TEST_CASE("a mismatched message is an error on both sides", "[alone]") {
    auto why = failure(2, [](Communicator& c) {
        std::vector<float> x(64);
        if (c.rank() == 0) c.send(std::span(x).first(32), 1).wait();
        else c.recv(std::span(x), 0).wait();
    });
    CHECK_THAT(why, ContainsSubstring("send of 32 f32 to rank 1") &&
                        ContainsSubstring("recv of 64 f32 from rank 0") && ContainsSubstring("as message 1"));
}

TEST_CASE("a rank that is missing is named after the limit", "[alone]") {
    std::atomic<int> ended{0};
    auto seen = failures(
        3,
        [&](Communicator& c) {
            c.barrier().wait();
            std::vector<float> x(5);
            if (c.rank() == 1) {
                while (ended < 2) std::this_thread::sleep_for(1ms);
                return;
            }
            try {
                c.all_reduce(std::span(x), Combine::sum).wait();
            } catch (...) {
                ++ended;
                throw;
            }
        },
        0.5);
    CHECK(
        seen[0] ==
        "world: rank 1 is missing from all_reduce of 5 f32, call 2, where rank 0, rank 2 wait, after 0.5 s");
    CHECK(seen[2] == seen[0]);

    seen = failures(
        2,
        [](Communicator& c) {
            std::vector<float> x(5);
            c.recv(std::span(x), 1 - c.rank()).wait();  // both
        },
        0.5);
    CHECK_THAT(seen[0], ContainsSubstring("is missing from recv of 5 f32 from rank") &&
                            ContainsSubstring("message 1"));
    CHECK_THAT(seen[0], ContainsSubstring("where rank") && ContainsSubstring("; rank"));
    CHECK(seen[1] == seen[0]);

    seen = failures(
        2,
        [](Communicator& c) {
            std::vector<float> x(5);
            auto first = c.rank() == 0 ? c.send(std::span(x), 1) : Pending();
            if (c.rank() == 0) c.barrier().wait();
            else c.send(std::span(x), 0).wait();
        },
        0.5);
    CHECK_THAT(seen[0], ContainsSubstring("rank 0 waits") && ContainsSubstring("send of 5 f32 to rank 0"));
}

TEST_CASE("a rank that has left is named at once", "[alone]") {
    auto seen = failures(2, [](Communicator& c) {
        c.barrier().wait();
        if (c.rank() == 0) c.barrier().wait();
    });
    CHECK(seen[0] == "world: rank 1 has left before barrier, call 2, of rank 0");
    seen = failures(2, [](Communicator& c) {
        std::vector<float> x(2);
        if (c.rank() == 0) c.recv(std::span(x), 1).wait();
    });
    CHECK(seen[0] == "world: rank 1 has left before recv of 2 f32 from rank 1, message 1, of rank 0");
}

TEST_CASE("a failure in a part of the world ends all of it, and names world ranks", "[alone]") {
    auto why = failure(4, [](Communicator& c) {
        auto half = c.split(c.rank() / 2, 0, "tensor");
        std::vector<float> x(4);
        if (c.rank() == 3) half->barrier().wait();
        else if (c.rank() == 2) half->all_reduce(std::span(x), Combine::sum).wait();
        else c.barrier().wait();
    });
    CHECK(why ==
          "tensor: rank 1 (world rank 3) calls barrier as call 1, rank 0 (world rank 2) all_reduce of 4 f32");
}

TEST_CASE("a failure says which ranks of the world it is about, and who tells of it", "[alone]") {
    struct Told {
        std::vector<int> ranks;
        int witness = -1;
    };
    // On every rank; of a world of four in halves 0 2 and 1 3.
    auto told = [](std::function<void(Communicator&, Communicator&)> const& f) {
        std::vector<Told> all(4);
        auto rank = [&](Communicator& c) {
            auto half = c.split(c.rank() % 2, 0, "data");
            try {
                f(c, *half);
            } catch (CommunicationError const& e) {
                all[static_cast<std::size_t>(c.rank())] = {e.ranks, e.witness};
            }
        };
        run_ranks(4, rank, {.limit_seconds = 0.5, .hung = [](std::string const&) {}});
        for (auto const& t : all) CHECK((t.ranks == all[1].ranks && t.witness == all[1].witness));
        return all[1];
    };
    auto x = [] { return std::vector<float>(4); };
    auto hangs = [&](int who) {
        return told([&, who](Communicator& c, Communicator& half) {
            // The other half comes later, so that who waits for the rank itself finds out first.
            if (c.rank() == who) std::this_thread::sleep_for(1s);
            else if (c.rank() % 2 != who % 2) std::this_thread::sleep_for(200ms);
            half.barrier().wait();
            c.barrier().wait();
        });
    };
    auto first = hangs(0), last = hangs(3);
    CHECK((first.ranks == std::vector<int>{0} && first.witness == 2));
    CHECK((last.ranks == std::vector<int>{3} && last.witness == 1));
    auto differs = told([&](Communicator& c, Communicator& half) {
        auto y = x();
        if (c.rank() == 3) half.all_reduce(std::span(y), Combine::sum).wait();
        half.barrier().wait();
        c.barrier().wait();
    });
    CHECK((differs.ranks == std::vector<int>{3} && differs.witness == 1));
    auto message = told([&](Communicator& c, Communicator& half) {
        auto y = x();
        if (c.rank() == 3) half.send(std::span(y), 0).wait();
        if (c.rank() == 1) half.recv(std::span(y).first(2), 1).wait();
        c.barrier().wait();
    });
    CHECK((message.ranks == std::vector<int>{1, 3} && message.witness == 1));
}

TEST_CASE("run_ranks throws the first failure, naming the rank", "[alone]") {
    CHECK_THROWS_WITH(run_ranks(3,
                                [](Communicator& c) {
                                    if (c.rank() == 2) throw std::runtime_error("no more disk");
                                    c.barrier().wait();
                                }),
                      "rank 2: no more disk");
    CHECK_THROWS_AS(run_ranks(2, [](Communicator& c) { fail<UsageError>("bad key on {}", c.rank()); }),
                    UsageError);
    auto seen = failures(2, [](Communicator& c) {
        if (c.rank() == 1) fail("no more disk");
        c.barrier().wait();
    });
    CHECK(seen[0] == "rank 1 failed: no more disk");
}

TEST_CASE("a rank that unwinds with calls under way does not keep the others", "[alone]") {
    auto start = std::chrono::steady_clock::now();
    CHECK_THROWS_WITH(run_ranks(2,
                                [](Communicator& c) {
                                    auto part = c.split(0, 0, "data");
                                    std::vector<float> x(1000);
                                    auto pending = part->all_reduce(std::span(x), Combine::sum);
                                    if (c.rank() == 1) fail("rank 1 stumbles");
                                    pending.wait();
                                    std::vector<float> y(10);
                                    c.recv(std::span(y), 1).wait();
                                }),
                      "rank 1: rank 1 stumbles");
    CHECK(std::chrono::steady_clock::now() - start < 100s);  // far from the limit of 300 s
}

TEST_CASE("a rank that never returns is reported", "[alone]") {
    std::atomic<bool> reported{false};
    std::string why;
    CHECK_THROWS_AS(run_ranks(2,
                              [&](Communicator& c) {
                                  if (c.rank() == 0) return c.barrier().wait();
                                  while (!reported) std::this_thread::sleep_for(1ms);
                              },
                              {.limit_seconds = 0.5,
                               .hung =
                                   [&](std::string const& failure) {
                                       why = failure;
                                       reported = true;
                                   }}),
                    CommunicationError);
    CHECK(why == "world: rank 1 is missing from barrier, call 1, where rank 0 waits, after 0.5 s");
}

TEST_CASE("a world can be ended from outside", "[alone]") {
    ThreadWorld world(2);
    std::thread rank([&] {
        auto c = world.join(0);
        CHECK_THROWS_WITH(c->barrier().wait(), "stop");
        CHECK_THROWS_WITH(c->barrier().wait(), "stop");
    });
    std::this_thread::sleep_for(5ms);
    world.fail(CommunicationError("stop"));
    world.fail(CommunicationError("later"));
    rank.join();
    CHECK(world.failure() == "stop");
}
