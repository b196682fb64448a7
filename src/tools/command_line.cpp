#include "command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <sstream>

namespace plait::tools {
namespace {

/// `--model.dim=64` or `--model.dim 64`
bool is_override(std::string const& argument) {
    return argument.starts_with("--") &&
           argument.substr(0, argument.find('=')).find('.') != std::string::npos;
}

/// Takes the overrides out of `arguments`, which CLI11 does not know.
std::vector<Override> take_overrides(std::vector<std::string>& arguments) {
    std::vector<Override> overrides;
    std::vector<std::string> rest;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        auto const& a = arguments[i];
        if (!is_override(a)) {
            rest.push_back(a);
            continue;
        }
        auto equal = a.find('=');
        auto flag = a.substr(0, equal);
        if (equal != std::string::npos) {
            overrides.push_back({flag.substr(2), a.substr(equal + 1), flag});
            continue;
        }
        check<UsageError>(i + 1 < arguments.size() && !arguments[i + 1].starts_with("--"),
                          "{} has no value: write {}=VALUE", flag, flag);
        overrides.push_back({flag.substr(2), arguments[++i], flag});
    }
    arguments = rest;
    return overrides;
}

Dump dump_of(std::string const& text) {
    std::vector<std::string> const names{"graph", "layout", "schedule", "memory", "program", "plan"};
    bool const graphviz = text.ends_with(".dot");
    auto name = graphviz ? text.substr(0, text.size() - 4) : text;
    auto found = std::find(names.begin(), names.end(), name);
    check<UsageError>(found != names.end(),
                      "--dump {}: there is graph, layout, schedule, memory, program, plan; the nearest is {}",
                      text, nearest_name(name, names));
    check<UsageError>(!graphviz || name == "graph" || name == "layout",
                      "--dump {}: only graph.dot and layout.dot are made for Graphviz", text);
    return {static_cast<Dump::What>(found - names.begin()), graphviz};
}

void add_train(CLI::App& app, TrainArguments& train, std::vector<std::string>& dumps,
               std::vector<Override>& flags) {
    // Flags that stand for a key; their values are read as an override is.
    auto stands_for = [&](std::string flag, std::string key, std::string const& help) {
        app.add_option_function<std::string>(
            flag,
            [&flags, flag, key](std::string const& text) {
                flags.push_back({key, text, flag});
            },
            help);
    };
    app.add_option("--config", train.config, "TOML file with the configuration");
    app.add_flag("--print-config", train.print_config, "Print every value and where it came from, and stop");
    stands_for("--steps", "run.steps", "Number of the last step");
    stands_for("--cluster", "run.cluster", "self, threads:N, mpi, nccl or sim:NAME");
    stands_for("--mesh", "plan.mesh", "Sizes of axes: data=2,tensor=2,pipeline=2");
    stands_for("--bits", "plan.bits", "fast, or layout for the same bits on every layout");
    app.add_flag_callback(
        "--hash",
        [&flags] {
            flags.push_back({"run.hash", "true", "--hash"});
        },
        "Write params_hash of every step");
    app.add_flag("--resume", train.resume, "Go on from the newest checkpoint in run.out");
    app.add_option("--dump", dumps,
                   "Print graph, graph.dot, layout, layout.dot, schedule, memory, program or plan, and stop")
        ->expected(1)
        ->take_all();
    app.add_flag("--dry-run", train.dry_run, "Print parameters, memory and mesh, and stop");
    app.add_option_function<std::string>(
           "--trace", [&train](std::string const& file) { train.trace = file; },
           "Write when each rank did what in the third step, for ui.perfetto.dev; FILE is else trace.json of "
           "the run")
        ->type_name("[FILE]")
        ->expected(0, 1);
    app.add_option("--trace-steps", train.trace_steps, "How many steps to trace")->capture_default_str();
    app.add_flag("--sync", train.sync, "Wait for every op, and name the first that fails or gives a NaN");
    app.add_option("--record", train.record,
                   "Folder for the hashes of every step's values: see plait bisect");
    app.add_flag("--record-values", train.record_values, "Record the values too");
    app.add_option("--watch", train.watch, "Record only marked values that this glob matches: blocks.*.out")
        ->expected(1)
        ->take_all();
    app.footer(
        "Any value of the configuration can be given as --section.key=value; --print-config lists them.");
}

void add_generate(CLI::App& app, GenerateArguments& generate) {
    auto& how = generate.sampling;
    app.add_option("RUN", generate.run, "Folder of a run")->required();
    // A prompt may begin with a dash, and each option takes one.
    app.add_option("--prompt", generate.prompts, "Text to go on from; may be repeated")
        ->expected(1)
        ->take_all();
    app.add_option("--prompt-file", generate.prompt_files, "File whose text is a prompt; may be repeated")
        ->expected(1)
        ->take_all();
    app.add_option("--tokens", generate.tokens, "How many to make for each prompt")->capture_default_str();
    app.add_option("--temperature", how.temperature, "0 takes the likeliest token")->capture_default_str();
    app.add_option("--top-k", how.top_k, "Draw from the K likeliest tokens; 0 from all")
        ->capture_default_str();
    app.add_option("--top-p", how.top_p, "Draw from the likeliest tokens that hold this share")
        ->capture_default_str();
    app.add_option("--seed", generate.seed, "Of the random choice")->capture_default_str();
    app.add_option("--stop", generate.stop, "End a text before this string");
    app.add_option("--batch", generate.batch, "Prompts that go on at a time, at most 32")
        ->capture_default_str();
    app.add_option("--context", generate.context,
                   "Tokens that the model sees, by default as many as in training. When they are full, it "
                   "reads the last half of them again and goes on");
    app.add_option("--threads", generate.threads, "By default as the run has them");
    app.add_option("--checkpoint", generate.checkpoint,
                   "latest (the newest that is whole), a step, or the path of one")
        ->capture_default_str();
    app.add_flag("--json", generate.json,
                 "A line of JSON for each prompt: prompt, text, tokens, tokens_per_second");
    app.add_flag("--quiet", generate.quiet, "No line with tokens/s on standard error");
}

void add_report(CLI::App& app, ReportArguments& report) {
    app.add_option("RUN", report.runs, "Folders of runs; several are compared")->required();
    app.add_option("--out", report.out, "File to write; else report.html of the first run");
}

void add_prepare(CLI::App& app, PrepareArguments& prepare) {
    app.add_option("PATH", prepare.paths, "Files and folders with text")->required();
    app.add_option("--out", prepare.out, "Folder to write")->required();
    app.add_option("--vocab", prepare.vocab, "Tokens to learn")->capture_default_str();
    app.add_option("--tokenizer", prepare.tokenizer, "Use this tokenizer.json; none is trained then");
    app.add_option("--validation", prepare.validation, "Part of the text for validation")
        ->capture_default_str();
    // One value each, so that paths may follow.
    for (auto [name, globs, help] :
         {std::tuple{"--include", &prepare.include, "Only such files of folders: '*.cpp'"},
          {"--exclude", &prepare.exclude, "No such files: 'build/**'"}})
        app.add_option(name, *globs, help)->expected(1)->take_all();
    app.add_option("--max-file-bytes", prepare.max_file_bytes, "Leave larger files out");
    app.add_option("--max-bytes", prepare.max_bytes, "Of all text; files beyond are left out");
    app.add_option("--shard-tokens", prepare.shard_tokens, "Where a file of tokens ends")
        ->capture_default_str();
    app.add_option("--format", prepare.format, "plait, or llm.c")->capture_default_str();
    app.add_option("--threads", prepare.threads, "0 takes all cores")->capture_default_str();
}

void check_prepare(PrepareArguments const& p) {
    check<UsageError>(p.vocab >= 257 && p.vocab <= 1 << 20, "--vocab {}: must be from 257 to {}", p.vocab,
                      1 << 20);
    check<UsageError>(p.validation >= 0 && p.validation < 1,
                      "--validation {}: must be at least 0 and below 1", p.validation);
    check<UsageError>(p.max_file_bytes >= 0, "--max-file-bytes {}: must not be negative", p.max_file_bytes);
    check<UsageError>(p.max_bytes >= 0, "--max-bytes {}: must not be negative", p.max_bytes);
    // llm.c counts in 31 bits, and a shard ends with a whole document.
    check<UsageError>(p.shard_tokens >= 1 && p.shard_tokens <= 1 << 30,
                      "--shard-tokens {}: must be from 1 to {}", p.shard_tokens, 1 << 30);
    check<UsageError>(p.format == "plait" || p.format == "llm.c", "--format {}: there is plait and llm.c",
                      p.format);
    check<UsageError>(p.threads >= 0 && p.threads <= 1024, "--threads {}: must be from 0 to 1024", p.threads);
}

/// The text of --a or --b: flags that stand for keys, and overrides.
std::vector<Override> side_of(std::string const& flag, std::string const& text) {
    std::istringstream in(text);
    std::vector<std::string> words;
    for (std::string word; in >> word;) {
        for (auto [name, key] : {std::pair{"--mesh", "--plan.mesh"},
                                 {"--bits", "--plan.bits"},
                                 {"--cluster", "--run.cluster"}}) {
            std::string const n = name;
            if (word == n || word.starts_with(n + "=")) word = key + word.substr(n.size());
        }
        words.push_back(word);
    }
    auto overrides = take_overrides(words);
    check<UsageError>(words.empty(),
                      "{} \"{}\": {} is neither --mesh, --cluster, --bits nor --plan.KEY=VALUE", flag, text,
                      words.empty() ? "" : words.front());
    for (auto const& o : overrides)
        check<UsageError>(o.key.starts_with("plan.") || o.key == "run.cluster" || o.key == "run.threads",
                          "{}: {} is no matter of layout: give it to both sides, outside of {}", flag, o.flag,
                          flag);
    return overrides;
}

void add_bisect(CLI::App& app, BisectArguments& bisect, std::string& a, std::string& b) {
    app.add_option("FOLDERS", bisect.folders, "Two folders that plait train --record wrote")->expected(0, 2);
    app.add_option("--exact", bisect.exact, "Folder of a recording with --plan.compute=f64 and its values");
    app.add_option("--config", bisect.config, "TOML file of a run to make on two layouts");
    app.add_option("--a", a, "Layout of the first: \"--mesh data=2 --plan.zero=1\"");
    app.add_option("--b", b, "Layout of the second");
    app.add_option("--steps", bisect.steps, "How many to compare; all values of them are held in memory")
        ->capture_default_str();
    app.add_option("--watch", bisect.watch, "Compare only marked values that this glob matches: blocks.*.out")
        ->expected(1)
        ->take_all();
    app.add_option("--rows", bisect.rows, "Differences to print")->capture_default_str();
    app.footer("Ends with 0 where all differences are rounding, with 1 where one is not.");
}

void check_bisect(BisectArguments const& bisect, bool sides) {
    bool const folders = !bisect.folders.empty();
    check<UsageError>(!folders || bisect.folders.size() == 2, "plait bisect: name two folders, A and B");
    check<UsageError>(
        folders || sides,
        "plait bisect: name two folders of recordings, or --config FILE --a \"...\" --b \"...\"");
    check<UsageError>(!folders || !(sides || !bisect.config.empty() || !bisect.overrides.empty()),
                      "plait bisect: folders and a configuration: give one of them");
    check<UsageError>(
        folders || bisect.exact.empty(),
        "plait bisect: --exact goes with two folders; layouts of a configuration are judged by a "
        "run in f64 anyway");
    check<UsageError>(bisect.steps >= 1, "--steps {}: must be at least 1", bisect.steps);
    check<UsageError>(bisect.rows >= 1, "--rows {}: must be at least 1", bisect.rows);
}

/// Fails on what no option took.
void refuse_rest(CLI::App const& app, std::string const& command) {
    auto rest = app.remaining();
    if (rest.empty()) return;
    auto name = rest[0].substr(0, rest[0].find('='));
    if (!name.starts_with("-")) fail<UsageError>("plait {}: '{}' is one argument too many", command, name);
    std::vector<std::string> known;
    for (auto const* option : app.get_options())
        for (auto const& n : option->get_lnames()) known.push_back("--" + n);
    fail<UsageError>("plait {}: there is no option {}: the nearest is {}", command, name,
                     nearest_name(name, known));
}

void check_generate(GenerateArguments const& g) {
    auto const& how = g.sampling;
    check<UsageError>(std::isfinite(how.temperature) && how.temperature >= 0,
                      "--temperature {}: must be 0 (the likeliest token) or above", how.temperature);
    check<UsageError>(how.top_k >= 0, "--top-k {}: must be 0 (all tokens) or above", how.top_k);
    check<UsageError>(how.top_p > 0 && how.top_p <= 1, "--top-p {}: must be above 0 and at most 1",
                      how.top_p);
    check<UsageError>(g.tokens >= 1, "--tokens {}: must be at least 1", g.tokens);
    check<UsageError>(g.batch >= 1 && g.batch <= 32, "--batch {}: must be 1 to 32", g.batch);
    check<UsageError>(g.context == 0 || g.context >= 2, "--context {}: must be at least 2", g.context);
    check<UsageError>(g.threads >= 0 && g.threads <= 1024, "--threads {}: must be 1 to 1024", g.threads);
}

void refuse_unknown_command(std::string const& first) {
    std::vector<std::string> const known{"prepare", "train",     "generate", "report",
                                         "bisect",  "--version", "--help"};
    bool const later = first == "plan";
    check<UsageError>(!later, "plait {} is not in this version yet", first);
    auto find = [&](auto const& name) { return std::find(known.begin(), known.end(), name) != known.end(); };
    check<UsageError>(find(first) || first == "-h", "plait: there is no command {}: the nearest is {}", first,
                      nearest_name(first, known));
}

}  // namespace

CommandLine parse_command_line(std::vector<std::string> const& given) {
    CommandLine line;
    auto arguments = given;
    if (!arguments.empty()) refuse_unknown_command(arguments[0]);
    bool const training = !arguments.empty() && arguments[0] == "train";
    if (training) line.train.overrides = take_overrides(arguments);
    if (!arguments.empty() && arguments[0] == "bisect") {
        // What --a and --b are given looks like options itself.
        for (std::size_t i = 1; i + 1 < arguments.size(); ++i) {
            if (arguments[i] != "--a" && arguments[i] != "--b") continue;
            arguments[i] += "=" + arguments[i + 1];
            arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
        line.bisect.overrides = take_overrides(arguments);
    }

    CLI::App app("Plait trains language models", "plait");
    bool version = false;
    std::vector<std::string> dumps;
    std::vector<Override> flags;
    app.add_flag("--version", version, "Print what was built in and found");
    auto* prepare = app.add_subcommand("prepare", "Make a tokenizer and tokens from text")->allow_extras();
    auto* train = app.add_subcommand("train", "Train a model on text")->allow_extras();
    auto* generate = app.add_subcommand("generate", "Continue a text with a trained model")->allow_extras();
    add_prepare(*prepare, line.prepare);
    add_train(*train, line.train, dumps, flags);
    auto* report =
        app.add_subcommand("report", "Write a page of a run's curves, memory and samples")->allow_extras();
    add_generate(*generate, line.generate);
    add_report(*report, line.report);
    std::string a, b;
    auto* bisect = app.add_subcommand("bisect", "Name the first value in which two layouts of a run differ")
                       ->allow_extras();
    add_bisect(*bisect, line.bisect, a, b);
    try {
        std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
        app.parse(std::move(arguments));
    } catch (CLI::CallForHelp const&) {
        line.help = app.help();
        return line;
    } catch (CLI::ParseError const& e) {
        std::string what = e.what();
        std::replace(what.begin(), what.end(), '\n', ' ');
        fail<UsageError>("plait{}: {}", given.empty() ? "" : " " + given[0], what);
    }
    if (version) line.command = CommandLine::Command::version;
    if (prepare->parsed()) {
        refuse_rest(*prepare, "prepare");
        line.command = CommandLine::Command::prepare;
        check_prepare(line.prepare);
    } else if (train->parsed()) {
        refuse_rest(*train, "train");
        line.command = CommandLine::Command::train;
        for (auto const& d : dumps) line.train.dumps.push_back(dump_of(d));
        for (auto const& f : flags) {
            for (auto const& o : line.train.overrides)
                check<UsageError>(o.key != f.key, "{} and {} set the same value: give one", f.flag, o.flag);
            line.train.overrides.push_back(f);
        }
        auto const& t = line.train;
        check<UsageError>(t.trace || train->count("--trace-steps") == 0, "--trace-steps goes with --trace");
        check<UsageError>(t.trace_steps >= 1, "--trace-steps {}: must be at least 1", t.trace_steps);
        check<UsageError>(!t.trace || !(t.dry_run || t.print_config || !t.dumps.empty()),
                          "--trace goes with a run, and {} makes none",
                          t.dry_run        ? "--dry-run"
                          : t.print_config ? "--print-config"
                                           : "--dump");
        check<UsageError>(
            !line.train.record.empty() || (!line.train.record_values && line.train.watch.empty()),
            "{} goes with --record FOLDER", line.train.record_values ? "--record-values" : "--watch");
    } else if (bisect->parsed()) {
        refuse_rest(*bisect, "bisect");
        line.command = CommandLine::Command::bisect;
        check_bisect(line.bisect, bisect->count("--a") + bisect->count("--b") > 0);
        line.bisect.a = side_of("--a", a), line.bisect.b = side_of("--b", b);
    } else if (generate->parsed()) {
        refuse_rest(*generate, "generate");
        line.command = CommandLine::Command::generate;
        check_generate(line.generate);
    } else if (report->parsed()) {
        refuse_rest(*report, "report");
        line.command = CommandLine::Command::report;
    } else if (!version) {
        line.help = app.help();
    }
    return line;
}

}  // namespace plait::tools
