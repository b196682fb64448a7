#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/memory_check.hpp"

#include "catch.hpp"

using namespace plait;
using namespace plait::tools;

TEST_CASE("the ranks of a machine are held to its memory together, each with what it takes") {
    HostMemory const memory{{{100, 0, 0}, {300, 0, 1}}};
    CHECK_NOTHROW(check_memory(memory, 400, "1f1b"));
    CHECK_THROWS_WITH(check_memory(memory, 399, "1f1b"), ContainsSubstring("the run needs 400 B of memory"));
}

TEST_CASE("a schedule that has too much under way is refused with its rank and slot") {
    auto memory = [](std::string const& name) {
        auto const schedule = make_schedule(name, 2, 1, 4);
        Costs costs;
        costs.stash_bytes = {10, 10}, costs.held_bytes = {10, 10};
        HostMemory m{{}, schedule, costs};
        auto const needs = check_schedule(schedule, costs).rank_bytes;
        for (int r = 0; r < 2; ++r)
            m.ranks.push_back(
                {50 + needs[static_cast<std::size_t>(r)], needs[static_cast<std::size_t>(r)], r});
        return m;
    };
    // GPipe keeps four micro-batches on each rank, 1F1B two and one.
    CHECK_NOTHROW(check_memory(memory("gpipe"), 180, "gpipe"));
    CHECK_NOTHROW(check_memory(memory("1f1b"), 130, "1f1b"));
    CHECK_THROWS_WITH(
        check_memory(memory("gpipe"), 170, "csv:a.csv"),
        ContainsSubstring("plan.schedule = \"csv:a.csv\": schedule gpipe: rank 0, slot 3 (0F3) takes") &&
            ContainsSubstring("to 40 bytes, over the limit of 35"));
    // Where the rest alone is too much, no other schedule would help.
    CHECK_THROWS_WITH(check_memory(memory("gpipe"), 90, "gpipe"),
                      ContainsSubstring("the run needs 180 B of memory"));
    // Ranks of other machines have memory of their own.
    auto here = memory("gpipe");
    here.ranks.erase(here.ranks.begin());
    CHECK_NOTHROW(check_memory(here, 90, "gpipe"));
    CHECK_THROWS_WITH(check_memory(here, 89, "gpipe"), ContainsSubstring("rank 1, slot 3 (1F3)"));
}

#endif
