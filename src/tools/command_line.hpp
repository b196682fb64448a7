#pragma once

#include "config.hpp"
#include "sampling.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace plait::tools {

/// Something to print instead of training: `--dump graph.dot`.
struct Dump {
    enum class What : std::uint8_t { graph, layout, schedule, memory, program, plan };
    What what = What::graph;
    bool graphviz = false;
};

struct TrainArguments {
    std::string config;               // TOML file, or empty
    std::vector<Override> overrides;  // --section.key=value in order, then --steps and its like
    std::vector<Dump> dumps;
    bool print_config = false, resume = false, dry_run = false, sync = false;
    std::optional<std::string> trace;  // file; empty: trace.json of the run folder
    std::int64_t trace_steps = 1;
    std::string record;              // folder for a recording of every step, or empty
    bool record_values = false;      // and not hashes alone
    std::vector<std::string> watch;  // globs of marked values to record; empty: all
};

struct GenerateArguments {
    std::string run;  // folder of a run
    std::vector<std::string> prompts, prompt_files;
    std::string checkpoint = "latest";  // or a step, a folder's name such as step-00000020, or a path
    Sampling sampling;
    std::int64_t tokens = 200;
    std::uint64_t seed = 1;
    std::int64_t batch = 8;    // prompts that go on at a time
    std::int64_t context = 0;  // tokens that the model sees; 0: as many as in training
    std::int64_t threads = 0;  // 0: those of the run
    std::string stop;
    bool json = false, quiet = false;
};

struct ReportArguments {
    std::vector<std::string> runs;  // folders
    std::string out;                // file; empty: report.html of the first run
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
    enum class Command : std::uint8_t { help, version, prepare, train, generate, report, bisect };
    Command command = Command::help;
    std::string help;  // the text to print for Command::help
    PrepareArguments prepare;
    TrainArguments train;
    GenerateArguments generate;
    ReportArguments report;
    BisectArguments bisect;
};

/// Reads the arguments after the program's name. Throws UsageError of one line, with the nearest name for an
/// unknown command or option.
CommandLine parse_command_line(std::vector<std::string> const& arguments);

}  // namespace plait::tools
