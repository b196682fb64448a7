#include "plait/train/signals.hpp"

#include "catch.hpp"

#include <sys/wait.h>
#include <unistd.h>

using namespace plait;

TEST_CASE("stop signals are noted, and the handlers before come back") {
    int const all[] = {SIGINT, SIGTERM, SIGUSR1};
    std::string_view const names[] = {"SIGINT", "SIGTERM", "SIGUSR1"};
    for (int i = 0; i < 3; ++i) {
        auto before = std::signal(all[i], SIG_IGN);
        {
            StopSignals stop;
            CHECK_FALSE(stop.requested());
            CHECK(stop.name().empty());
            std::raise(all[i]);
            CHECK(stop.requested());
            CHECK(stop.name() == names[i]);
        }
        std::raise(all[i]);  // ignored again
        CHECK(std::signal(all[i], before) == SIG_IGN);
    }
}

TEST_CASE("a second signal ends the process, whichever they are") {
    int const all[] = {SIGINT, SIGTERM, SIGUSR1};
    for (int first : all)
        for (int second : all) {
            auto child = ::fork();
            if (child == 0) {
                StopSignals stop;
                std::raise(first);
                if (!stop.requested()) ::_exit(1);
                std::raise(second);
                ::_exit(2);
            }
            int status = 0;
            REQUIRE(::waitpid(child, &status, 0) == child);
            REQUIRE(WIFSIGNALED(status));
            CHECK(WTERMSIG(status) == second);
        }
}
