#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/command_line.hpp"

#include "catch.hpp"
#include "scratch.hpp"

using namespace plait;
using namespace plait::tools;

namespace {

using Words = std::vector<std::string>;

std::string error_of(Words const& words) {
    auto message = message_of<UsageError>([&] { parse_command_line(words); });
    CHECK_FALSE(contains(message, "\n"));
    return message;
}

}  // namespace

TEST_CASE("plait train takes its flags and any key of the configuration") {
    auto line =
        parse_command_line({"train", "--config", "a.toml", "--model.dim=64", "--steps", "20", "--dump",
                            "graph", "--run.out", "runs/a", "--dump=graph.dot", "--dump", "memory", "--hash",
                            "--resume", "--mesh", "data=2,tensor=2", "--bits=layout", "--cluster=threads:4"});
    REQUIRE(line.command == CommandLine::Command::train);
    auto const& t = line.train;
    CHECK(t.config == "a.toml");
    CHECK(t.resume);
    CHECK_FALSE(t.dry_run);
    CHECK_FALSE(t.print_config);
    std::vector<std::string> seen;
    for (auto const& o : t.overrides) seen.push_back(o.flag + " " + o.key + " " + o.text);
    CHECK(seen == Words{"--model.dim model.dim 64", "--run.out run.out runs/a", "--steps run.steps 20",
                        "--cluster run.cluster threads:4", "--mesh plan.mesh data=2,tensor=2",
                        "--bits plan.bits layout", "--hash run.hash true"});
    REQUIRE(t.dumps.size() == 3);
    CHECK(t.dumps[0].what == Dump::What::graph);
    CHECK_FALSE(t.dumps[0].graphviz);
    CHECK(t.dumps[1].graphviz);
    CHECK(t.dumps[2].what == Dump::What::memory);
    CHECK(load_config("", {t.overrides[0], t.overrides[2]}).run.steps == 20);
    auto flags = parse_command_line({"train", "--dry-run", "--sync", "--print-config"}).train;
    CHECK((flags.dry_run && !flags.trace && flags.sync && flags.print_config && !flags.resume));
    auto traced = [](std::vector<std::string> const& more) {
        std::vector<std::string> all{"train"};
        all.insert(all.end(), more.begin(), more.end());
        return parse_command_line(all).train;
    };
    CHECK(traced({"--trace"}).trace == "");
    CHECK(traced({"--trace", "--steps", "3"}).trace == "");
    CHECK(traced({"--trace", "--run.steps=3"}).trace == "");
    CHECK(traced({"--trace", "a.json", "--trace-steps=4"}).trace == "a.json");
    CHECK(traced({"--trace=a.json", "--trace-steps=4"}).trace_steps == 4);
}

TEST_CASE("plait generate, --version and help") {
    auto g = parse_command_line(
        {"generate", "runs/a", "--prompt", "Once", "--temperature=0.5", "--tokens", "9", "--seed", "3"});
    REQUIRE(g.command == CommandLine::Command::generate);
    CHECK(g.generate.run == "runs/a");
    CHECK(g.generate.prompts == std::vector<std::string>{"Once"});
    CHECK(g.generate.sampling.temperature == 0.5);
    CHECK(g.generate.tokens == 9);
    CHECK(g.generate.seed == 3);
    CHECK(parse_command_line({"generate", "runs/a", "--prompt=--a.b=c"}).generate.prompts[0] == "--a.b=c");
    auto many = parse_command_line({"generate",      "runs/a", "--prompt",  "a",       "--prompt",     "b",
                                    "--prompt-file", "c",      "--top-k",   "4",       "--top-p",      "0.9",
                                    "--stop",        "\n",     "--json",    "--quiet", "--batch",      "2",
                                    "--context",     "64",     "--threads", "1",       "--checkpoint", "20"})
                    .generate;
    CHECK(many.prompts == std::vector<std::string>{"a", "b"});
    CHECK(many.prompt_files == std::vector<std::string>{"c"});
    CHECK(many.sampling.top_k == 4);
    CHECK(many.sampling.top_p == 0.9);
    CHECK(many.stop == "\n");
    CHECK((many.json && many.quiet));
    CHECK((many.batch == 2 && many.context == 64 && many.threads == 1));
    CHECK(many.checkpoint == "20");
    CHECK(parse_command_line({"--version"}).command == CommandLine::Command::version);
    for (auto const& words : {Words{}, Words{"--help"}, Words{"-h"}}) {
        auto h = parse_command_line(words);
        CHECK(h.command == CommandLine::Command::help);
        CHECK(contains(h.help, "generate"));
    }
    auto h = parse_command_line({"train", "--help"});
    CHECK(h.command == CommandLine::Command::help);
    CHECK(contains(h.help, "--print-config"));
    CHECK_FALSE(contains(h.help, "--temperature"));
}

TEST_CASE("plait bisect takes two folders, or a configuration and two layouts") {
    auto line = parse_command_line({"bisect", "a", "b", "--exact", "c"});
    REQUIRE(line.command == CommandLine::Command::bisect);
    CHECK(line.bisect.folders == Words{"a", "b"});
    CHECK(line.bisect.exact == "c");
    line = parse_command_line({"bisect", "--config", "x.toml", "--model.dim=64", "--a",
                               "--mesh data=2  --plan.zero=1 --cluster=threads:2", "--b", "--bits layout",
                               "--steps", "5", "--watch", "**.out", "--watch=**.gradient"});
    auto const& b = line.bisect;
    auto seen = [](std::vector<Override> const& overrides) {
        Words words;
        for (auto const& o : overrides) words.push_back(o.key + " " + o.text);
        return words;
    };
    CHECK(seen(b.overrides) == Words{"model.dim 64"});
    CHECK(seen(b.a) == Words{"plan.mesh data=2", "plan.zero 1", "run.cluster threads:2"});
    CHECK(seen(b.b) == Words{"plan.bits layout"});
    CHECK(b.steps == 5);
    CHECK(b.watch == Words{"**.out", "**.gradient"});
    CHECK(error_of({"bisect", "a", "b", "--a", "--mesh data=2"}) ==
          "plait bisect: folders and a configuration: give one of them");
}

TEST_CASE("wrong arguments are refused with the nearest right one") {
    CHECK(error_of({"trian"}) == "plait: there is no command trian: the nearest is train");
    CHECK(error_of({"report"}) == "plait report: RUN is required");
    CHECK(error_of({"train", "--stpes=3"}) ==
          "plait train: there is no option --stpes: the nearest is --steps");
    CHECK(error_of({"train", "extra"}) == "plait train: 'extra' is one argument too many");
    CHECK(error_of({"train", "--model.dim"}) == "--model.dim has no value: write --model.dim=VALUE");
    CHECK(error_of({"train", "--model.dim", "--hash"}) ==
          "--model.dim has no value: write --model.dim=VALUE");
    CHECK(error_of({"train", "--steps=3", "--run.steps=4"}) ==
          "--steps and --run.steps set the same value: give one");
    CHECK(contains(error_of({"train", "--dump", "grpah"}), "the nearest is graph"));
    CHECK(contains(error_of({"train", "--dump", "memory.dot"}), "only graph.dot"));
    CHECK(contains(error_of({"train", "--steps"}), "--steps"));
    CHECK(contains(error_of({"generate"}), "RUN"));
    CHECK(contains(error_of({"generate", "a", "--tokens", "x"}), "--tokens"));
    CHECK(contains(error_of({"generate", "a", "--tokens", "0"}), "at least 1"));
    CHECK(contains(error_of({"generate", "a", "--temperature=-1"}), "--temperature"));
    CHECK(contains(error_of({"generate", "a", "--temperature=nan"}), "--temperature"));
    CHECK(contains(error_of({"generate", "a", "--top-k=-1"}), "--top-k -1"));
    CHECK(contains(error_of({"generate", "a", "--top-p=0"}), "--top-p 0"));
    CHECK(contains(error_of({"generate", "a", "--top-p=1.5"}), "--top-p 1.5"));
    CHECK(contains(error_of({"generate", "a", "--batch=33"}), "--batch 33: must be 1 to 32"));
    CHECK(contains(error_of({"generate", "a", "--context=1"}), "--context 1"));
    CHECK(contains(error_of({"generate", "a", "--top-x=1"}), "the nearest is --top-"));
    CHECK(contains(error_of({"generate", "a", "b"}), "too many"));
    CHECK(contains(error_of({"generate", "a", "--model.dim=3"}), "no option --model.dim"));
}

#endif
