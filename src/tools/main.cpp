#include <cstdio>
#include <exception>
#include <string_view>

#include "commands.hpp"
#include "launch.hpp"
#include "plait/version.hpp"

namespace {

void print_version() {
    fmt::print("plait {} ({} build, {})\n", PLAIT_VERSION, PLAIT_VERSION_BUILD, PLAIT_VERSION_COMPILER);
    fmt::print("built with: {}\n", PLAIT_VERSION_FOUND);
    if (!std::string_view(PLAIT_VERSION_MISSING).empty()) fmt::print("without: {}\n", PLAIT_VERSION_MISSING);
}

plait::tools::CommandLine parsed(std::vector<std::string> const& arguments, std::exception_ptr& wrong) {
    try {
        return plait::tools::parse_command_line(arguments);
    } catch (plait::UsageError const&) {
        wrong = std::current_exception();
        return {};
    }
}

}  // namespace

int main(int argc, char** argv) {
    using namespace plait::tools;
    try {
        std::exception_ptr wrong;
        auto line = parsed({argv + 1, argv + argc}, wrong);
        if (wrong) return refuse(wrong);
        switch (line.command) {
            case CommandLine::Command::help:
                fmt::print("{}", line.help);
                return 0;
            case CommandLine::Command::version:
                print_version();
                return 0;
            case CommandLine::Command::prepare:
                return prepare(line.prepare);
            case CommandLine::Command::train:
                return train(line.train);
            case CommandLine::Command::generate:
                return generate(line.generate);
            case CommandLine::Command::report:
                return report(line.report);
            case CommandLine::Command::bisect:
                return bisect(line.bisect);
        }
    } catch (std::exception const& e) {
        std::fflush(stdout);
        // What all processes of a launcher find alike is told once.
        return report_failure(e, is_first_process() ? stderr : nullptr);
    }
    return 1;
}
