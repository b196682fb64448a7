#pragma once

#include "config.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace plait::tools {

/// Something to print instead of training: `--dump graph.dot`.
struct Dump {
    enum class What : std::uint8_t { graph, layout, schedule, memory, program };
    What what = What::graph;
    bool graphviz = false;
};

struct TrainArguments {
    std::string config;               // TOML file, or empty
    std::vector<Override> overrides;  // --section.key=value in order, then --steps and its like
    std::vector<Dump> dumps;
    bool print_config = false, resume = false, dry_run = false, trace = false, sync = false;
    std::string record;              // folder for a recording of every step, or empty
    bool record_values = false;      // and not hashes alone
    std::vector<std::string> watch;  // globs of marked values to record; empty: all
};

struct GenerateArguments {
    std::string run;  // folder of a run
    std::string prompt;
    std::string checkpoint;    // its folder's name, step-00000020; empty: the newest that is whole
    double temperature = 0.8;  // 0: always the likeliest token
    std::int64_t tokens = 200;
    std::uint64_t seed = 1;
};

/// Two folders, or a configuration and two layouts of it.
struct BisectArguments {
    std::vector<std::string> folders;
    std::string exact;                // folder of a recording in f64, or empty
    std::string config;               // TOML file, or empty
    std::vector<Override> overrides;  // for both sides
    std::vector<Override> a, b;       // for one
    std::vector<std::string> watch;   // globs of marked values to compare; empty: all
    std::int64_t steps = 3, rows = 10;
};

struct CommandLine {
    enum class Command : std::uint8_t { help, version, train, generate, bisect };
    Command command = Command::help;
    std::string help;  // the text to print for Command::help
    TrainArguments train;
    GenerateArguments generate;
    BisectArguments bisect;
};

/// Reads the arguments after the program's name. Throws UsageError of one line, with the nearest name for an
/// unknown command or option.
CommandLine parse_command_line(std::vector<std::string> const& arguments);

}  // namespace plait::tools
