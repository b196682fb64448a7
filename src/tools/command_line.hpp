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
};

struct GenerateArguments {
    std::string run;  // folder of a run
    std::string prompt;
    std::string checkpoint;    // its folder's name, step-00000020; empty: the newest that is whole
    double temperature = 0.8;  // 0: always the likeliest token
    std::int64_t tokens = 200;
    std::uint64_t seed = 1;
};

struct PrepareArguments {
    std::string out;                 // folder
    std::vector<std::string> paths;  // files and folders
    std::int64_t vocab = 8192;
    std::string tokenizer;                           // a tokenizer.json to use; empty: one is trained
    double validation = 0.05;                        // part of the text
    std::vector<std::string> include, exclude;       // globs of files in folders
    std::int64_t max_file_bytes = 0, max_bytes = 0;  // 0: no limit
    std::int64_t shard_tokens = 32 << 20;
    std::string format = "plait";
    std::int64_t threads = 0;  // 0: all cores
};

struct CommandLine {
    enum class Command : std::uint8_t { help, version, prepare, train, generate };
    Command command = Command::help;
    std::string help;  // the text to print for Command::help
    PrepareArguments prepare;
    TrainArguments train;
    GenerateArguments generate;
};

/// Reads the arguments after the program's name. Throws UsageError of one line, with the nearest name for an
/// unknown command or option.
CommandLine parse_command_line(std::vector<std::string> const& arguments);

}  // namespace plait::tools
