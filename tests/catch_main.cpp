// Exit codes: 0 passed, 4 skipped, 1 failed. Catch's own main may return 4 for four failures.
#if __has_include(<catch2/catch_test_macros.hpp>)

#include <catch2/catch_session.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>

static bool skipped = false;

struct Outcome : Catch::EventListenerBase {
    using EventListenerBase::EventListenerBase;
    void testRunEnded(Catch::TestRunStats const& run) override {
        skipped = run.totals.assertions.failed == 0 && run.totals.testCases.skipped > 0;
    }
};
CATCH_REGISTER_LISTENER(Outcome)

#else

#define CATCH_CONFIG_RUNNER
#include <iostream>

#include "catch.hpp"

static bool skipped = false;

namespace tests {
void skip(std::string const& why) {
    skipped = true;
    std::cout << "SKIPPED: " << why << std::endl;
    throw Catch::TestFailureException();  // ends the case; as no assertion has failed, it passes
}
}  // namespace tests

#endif

#include <string_view>

int main(int argc, char** argv) {
    int code = Catch::Session().run(argc, argv);
    for (int i = 1; i < argc; ++i) {
        if (std::string_view(argv[i]).starts_with("--list")) return 0;  // v2 returns their number
    }
    if (skipped && (code == 0 || code == 4)) return 4;
    return code == 0 ? 0 : 1;
}
