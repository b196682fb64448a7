#include "plait/cpu/thread_pool.hpp"

#include "catch.hpp"

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

using plait::ThreadPool;

TEST_CASE("a pool runs every tile once, whatever its size") {
    for (int workers : {1, 2, 3, 8}) {
        ThreadPool pool(workers);
        CHECK(pool.workers() == workers);
        for (std::int64_t tiles : {0, 1, 2, 7, 1000}) {
            for (int repeat = 0; repeat < 20; ++repeat) {
                std::vector<int> seen(static_cast<std::size_t>(tiles));
                std::atomic<bool> in_range = true;
                pool.run(tiles, [&](std::int64_t tile, int worker) {
                    ++seen[static_cast<std::size_t>(tile)];
                    if (worker < 0 || worker >= workers) in_range = false;
                });
                REQUIRE(seen == std::vector<int>(static_cast<std::size_t>(tiles), 1));
                REQUIRE(in_range);
            }
        }
    }
}

TEST_CASE("workers that run at one time have different numbers") {
    ThreadPool pool(4);
    std::vector<std::int64_t> sums(4 * 16);  // each worker adds to its own without a lock
    for (int repeat = 0; repeat < 200; ++repeat)
        pool.run(64,
                 [&](std::int64_t tile, int worker) { sums[static_cast<std::size_t>(worker) * 16] += tile; });
    CHECK(sums[0] + sums[16] + sums[32] + sums[48] == 200 * 64 * 63 / 2);
}

TEST_CASE("a run inside a tile is serial and keeps the worker's number") {
    ThreadPool pool(3), other(2);
    std::atomic<int> count = 0, wrong = 0;
    pool.run(5, [&](std::int64_t, int worker) {
        pool.run(7, [&](std::int64_t, int inner) {
            ++count;
            if (inner != worker) ++wrong;
        });
        other.run(1, [&](std::int64_t, int inner) {
            if (inner != 0) ++wrong;
        });
    });
    CHECK(count == 35);
    CHECK(wrong == 0);
}

TEST_CASE("an exception in a tile reaches the caller, and the pool goes on") {
    for (int workers : {1, 4}) {
        ThreadPool pool(workers);
        for (int repeat = 0; repeat < 50; ++repeat) {
            CHECK_THROWS_WITH(pool.run(100,
                                       [](std::int64_t tile, int) {
                                           if (tile % 10 == 3) throw std::runtime_error("tile");
                                       }),
                              "tile");
            std::atomic<int> count = 0;
            pool.run(10, [&](std::int64_t, int) { ++count; });
            REQUIRE(count == 10);
        }
    }
}

TEST_CASE("two threads may share a pool") {
    ThreadPool pool(3);
    std::atomic<int> count = 0;
    auto body = [&] {
        for (int i = 0; i < 300; ++i) pool.run(9, [&](std::int64_t, int) { ++count; });
    };
    std::thread other(body);
    body();
    other.join();
    CHECK(count == 2 * 300 * 9);
}
