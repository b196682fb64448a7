#include "plait/comm/mpi.hpp"

#include <cstdlib>
#include <iostream>
#include <thread>

#include "catch.hpp"
#include "comm/verbs.hpp"

using namespace plait;

// These are hidden: tests/CMakeLists.txt starts each under mpirun, as MPI serves a process once.

TEST_CASE("every verb, under mpirun", "[.][mpi]") {
    if (!mpi_available()) SKIP("built without MPI");
    int size = 0;
    REQUIRE_NOTHROW(run_mpi([&](Communicator& c) {
        tests::check_verbs(c);
        size = c.size();
    }));
    auto const* wanted = std::getenv("PLAIT_TEST_RANKS");
    CHECK(size == std::atoi(wanted ? wanted : "1"));
}

TEST_CASE("a failure, under mpirun", "[.][mpi_failure]") {
    if (!mpi_available()) SKIP("built without MPI");
    std::string kind = std::getenv("PLAIT_TEST_FAILURE");
    try {
        run_mpi(
            [&](Communicator& c) {
                std::vector<float> long_x(1 << 20), x(64), y(64 * static_cast<std::size_t>(c.size()));
                auto part = c.split(0, 0, "data");
                c.all_reduce(std::span(x), Combine::sum).wait();
                bool wrong = c.rank() == 1;
                if (wrong && kind == "exception") fail("no more disk");
                if (wrong && kind == "left") return;
                if (wrong && kind == "missing") std::this_thread::sleep_for(std::chrono::seconds(2));
                if (wrong && kind == "op") part->all_gather(std::span(x), std::span(y)).wait();
                else if (wrong && kind == "message") c.send(std::span(long_x).first(1 << 19), 0).wait();
                else if (!wrong && kind == "message") c.recv(std::span(long_x), 1).wait();
                else part->all_reduce(std::span(x), Combine::sum).wait();
            },
            {.limit_seconds = kind == "missing" ? 0.3 : 30});
    } catch (Error const& e) {
        std::cout << "caught: " << e.what() << std::endl;
    }
}
