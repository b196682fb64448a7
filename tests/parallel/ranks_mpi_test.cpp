#include "catch.hpp"
#include "laws/ranks.hpp"
#include "plait/comm/mpi.hpp"

#include <cstdlib>

using namespace plait;
using namespace tests;

// Hidden: tests/CMakeLists.txt starts it under mpirun, as MPI serves a process once.

TEST_CASE("processes under mpirun have the bits of one rank", "[.][mpi]") {
    if (!mpi_available()) SKIP("built without MPI");
    int size = 0, layouts = 0;
    REQUIRE_NOTHROW(run_mpi([&](Communicator& world) {
        size = world.size();
        for (auto s : {llama(), untied_llama(), dropping_gpt2()})
            for (auto compute : {f32, bf16})
                for (int zero : {0, 1, 2, 3})
                    for (int replica : {1, 2}) {
                        s.compute = compute;
                        Arrangement a{
                            .replica = replica, .data = size / replica, .micro = 1 + zero % 2, .zero = zero};
                        // The hash of one rank is computed here, in the same process.
                        auto const& want = wanted(s);
                        check(train(world, s, a) == want, "{}: rank {} has other bits", text_of(s, a),
                              world.rank());
                        ++layouts;
                    }
    }));
    auto const* ranks = std::getenv("PLAIT_TEST_RANKS");
    CHECK(size == std::atoi(ranks ? ranks : "1"));
    CHECK(layouts == 48);
}
