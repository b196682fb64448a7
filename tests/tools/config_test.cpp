#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/config.hpp"

#include "catch.hpp"
#include "scratch.hpp"

using namespace plait;
using namespace plait::tools;

namespace {

Override override_of(std::string key, std::string text) { return {key, text, "--" + key}; }

Config with(std::vector<Override> const& overrides) { return load_config("", overrides); }

/// The error of a TOML text, of loading or of checking.
std::string error_of(std::string const& toml, std::vector<Override> const& overrides = {}) {
    auto message = message_of<UsageError>([&] { check_config(parse_config(toml, "a.toml", overrides)); });
    CHECK_FALSE(contains(message, "\n"));
    return message;
}

std::string error_of_value(std::string const& key, std::string const& text) {
    return error_of("", {override_of(key, text)});
}

}  // namespace

TEST_CASE("a file and overrides are merged, and each value knows where it came from") {
    auto c = parse_config(
        R"([model]
family = "gpt2"
dim = 64
heads = 4

[data]
path = ["a", "b"]
validation = 0.1

[optimizer]
rate = 1
decay_globs = "**.weight, !**.{a,b}.weight"

[plan]
bits_granularity = {batch = 16, data = 4}
recompute = ["blocks.*"]
)",
        "x/a.toml",
        {override_of("model.dim", "128"), override_of("data.validation", "val.txt"),
         override_of("plan.bits_granularity.tensor", "8"), override_of("optimizer.min_rate", "1e-5"),
         override_of("model.dim", "256"), override_of("run.hash", "true")});
    CHECK(c.model.family == "gpt2");
    CHECK(c.model.dim == 256);
    CHECK(c.model.tied);
    CHECK(c.data.path == std::vector<std::string>{"a", "b"});
    CHECK(c.data.validation == Validation{0, "val.txt"});
    CHECK(c.optimizer.rate == 1.0);
    CHECK(c.optimizer.min_rate == 1e-5);
    CHECK(c.optimizer.decay_globs.list == std::vector<std::string>{"**.weight", "!**.{a,b}.weight"});
    CHECK(c.plan.recompute.list == std::vector<std::string>{"blocks.*"});
    CHECK(c.plan.bits_granularity.batch == 16);
    CHECK(c.plan.bits_granularity.data == 4);
    CHECK(c.plan.bits_granularity.tensor == 8);
    CHECK(c.run.hash);
    CHECK(c.origins.at("model.family") == "x/a.toml:2");
    CHECK(c.origins.at("model.dim") == "command line");
    CHECK(c.origins.at("model.layers") == "default");
    CHECK(c.origins.at("model.tied") == "default of gpt2");
    CHECK(c.origins.at("data.path") == "x/a.toml:7");
    CHECK(c.origins.at("plan.bits_granularity.batch").starts_with("x/a.toml:1"));
    CHECK(c.origins.at("plan.bits_granularity.tensor") == "command line");
    CHECK_NOTHROW(check_config(c));
    CHECK_FALSE(parse_config("[model]\nfamily = 'gpt2'\ntied = false", "a").model.tied);
}

TEST_CASE("the defaults are good") { CHECK_NOTHROW(check_config(with({}))); }

TEST_CASE("on the command line bare words are strings") {
    CHECK(with({override_of("run.out", "runs/a b")}).run.out == "runs/a b");
    CHECK(with({override_of("run.out", "12")}).run.out == "12");
    CHECK(with({override_of("run.out", "2024-01-01")}).run.out == "2024-01-01");
    CHECK(with({override_of("run.out", "\"quoted\"")}).run.out == "quoted");
    CHECK(with({override_of("run.out", "true")}).run.out == "true");
    CHECK(with({override_of("run.out", "")}).run.out.empty());
    CHECK(with({override_of("run.out", "a\nmodel = 1")}).run.out == "a\nmodel = 1");
    CHECK(with({override_of("plan.schedule", "1f1b")}).plan.schedule == "1f1b");
    CHECK(with({override_of("plan.mesh", "data=1,tensor=1")}).plan.mesh == "data=1,tensor=1");
    CHECK(with({override_of("run.cluster", "threads:1")}).run.cluster == "threads:1");
    CHECK(with({override_of("data.path", "book.txt")}).data.path == std::vector<std::string>{"book.txt"});
    CHECK(with({override_of("data.path", "1984")}).data.path == std::vector<std::string>{"1984"});
    CHECK(with({override_of("data.path", "[\"a\", \"b\"]")}).data.path == std::vector<std::string>{"a", "b"});
    CHECK(with({override_of("plan.recompute", "blocks.*, head")}).plan.recompute.list ==
          std::vector<std::string>{"blocks.*", "head"});
    CHECK(with({override_of("plan.bits_granularity", "{batch = 4, data = 2}")}).plan.bits_granularity.batch ==
          4);
}

TEST_CASE("the printed configuration reads back as itself") {
    auto c = parse_config(
        "[data]\npath = ['a\"b\\c', 'tab\t']\nvalidation = 'v'\n[model]\nrope_base = 1e30\n", "a.toml",
        {override_of("optimizer.rate", "3e-05"), override_of("plan.recompute", "a,b"),
         override_of("run.out", "x\ny")});
    auto text = config_text(c);
    auto again = parse_config(text, "b.toml");
    std::vector<std::string> values, values_again;
    for_each_key(c, [&](std::string const& key, auto const& v) { values.push_back(key + value_text(v)); });
    for_each_key(again,
                 [&](std::string const& key, auto const& v) { values_again.push_back(key + value_text(v)); });
    CHECK(values == values_again);
    CHECK(values.size() > 50);
    CHECK(contains(text, "[model]\nfamily = \"llama\" "));
    CHECK(contains(text, "# a.toml:3\n"));
    CHECK(contains(text, "rate = 3e-05 "));
    CHECK(contains(text, "# command line\n"));
    CHECK(contains(text, "bits_granularity.batch = 8 "));
    for (auto const& [key, origin] : again.origins) CHECK(origin.starts_with("b.toml:"));
    CHECK(config_text(again).size() > text.size() / 2);
}

TEST_CASE("an unknown key names the nearest one and its place") {
    CHECK(error_of("[model]\n\ndimm = 3") == "a.toml:3: unknown key model.dimm: the nearest is model.dim");
    CHECK(error_of("[optimizer]\nlearning_rat = 3") ==
          "a.toml:2: unknown key optimizer.learning_rat: the nearest is optimizer.min_rate");
    CHECK(error_of("[modle]\ndim = 3") == "a.toml:2: unknown key modle.dim: the nearest is model.dim");
    CHECK(error_of("micro_batchs = 3") ==
          "a.toml:1: unknown key micro_batchs: the nearest is plan.micro_batches");
    CHECK(contains(error_of("[modle]"), "unknown section [modle]"));
    CHECK(contains(error_of("model = 3"), "a.toml:1: model is a section"));
    CHECK(contains(error_of("[plan]\nbits_granularity = 8"), "plan.bits_granularity is a section"));
    CHECK(contains(error_of("[plan.bits_granularity]\nbacth = 8"),
                   "the nearest is plan.bits_granularity.batch"));
    CHECK(error_of_value("run.sed", "3") == "--run.sed=3: unknown key run.sed: the nearest is run.seed");
    CHECK(contains(error_of_value("model", "3"), "--model=3: model is a section"));
    CHECK(contains(error_of_value("model.dim.x", "3"), "unknown key"));
}

TEST_CASE("a value of the wrong type says what is wanted, what came and where") {
    CHECK(error_of("[model]\ndim = '64'") == "a.toml:2: model.dim wants an integer, got the string \"64\"");
    CHECK(error_of("[model]\ndim = 64.0") == "a.toml:2: model.dim wants an integer, got the number 64");
    CHECK(error_of("[model]\ndim = {a = 1}") == "a.toml:2: model.dim wants an integer, got a table");
    CHECK(error_of("[model]\ntied = 1") == "a.toml:2: model.tied wants true or false, got the integer 1");
    CHECK(error_of("[model]\nfamily = 1") == "a.toml:2: model.family wants a string, got the integer 1");
    CHECK(error_of("[optimizer]\nrate = nan") ==
          "a.toml:2: optimizer.rate wants a finite number, got the number nan");
    CHECK(error_of("[data]\npath = 3") ==
          "a.toml:2: data.path wants a string or a list of strings, got the integer 3");
    CHECK(error_of("[data]\npath = ['a', 3]") ==
          "a.toml:2: data.path wants a list of strings, one is the integer 3");
    CHECK(error_of("[data]\nvalidation = true") ==
          "a.toml:2: data.validation wants a part of the text such as 0.05, or a path, got true");
    CHECK(error_of("[[model]]\ndim = 3") ==
          "a.toml:1: model is a section: set one of its keys, such as model.family");
    CHECK(error_of_value("model.dim", "abc") ==
          "--model.dim=abc: model.dim wants an integer, got the string \"abc\"");
    CHECK(contains(error_of_value("model.dim", "9223372036854775808"), "model.dim wants an integer"));
}

TEST_CASE("a file that is no TOML or not there is an error with the place") {
    CHECK(contains(error_of("[model]\ndim = \n"), "a.toml:2: "));
    CHECK(contains(error_of("[model]\ndim = 1\ndim = 2\n"), "a.toml:3: "));
    CHECK(contains(error_of("\xff\xfe"), "a.toml:1: "));
    CHECK(contains(message_of<UsageError>([] { load_config("/nowhere/a.toml", {}); }),
                   "/nowhere/a.toml: No such file"));
    ScratchFolder folder;
    CHECK(contains(message_of<UsageError>([&] { load_config(folder.path().string(), {}); }), "directory"));
    put_text(folder / "a.toml", "[run]\nseed = 7\n");
    CHECK(load_config((folder / "a.toml").string(), {}).run.seed == 7);
}

TEST_CASE("a value out of range names key, value, origin and fix") {
    CHECK(error_of("[model]\ndim = 65\nheads = 8") ==
          "model.dim = 65 (a.toml:2): model.heads = 8 must divide it: use 64 or 72");
    CHECK(error_of_value("model.kv_heads", "3") ==
          "model.kv_heads = 3 (command line): must divide model.heads = 8, or be 0 for as many");
    CHECK(error_of_value("plan.micro_batches", "3") ==
          "plan.micro_batches = 3 (command line): must divide data.batch = 16");
    CHECK(error_of_value("plan.compute", "bf61") ==
          "plan.compute = \"bf61\" (command line): must be one of f32, bf16, f64; the nearest is bf16");
    CHECK(error_of_value("plan.bits_granularity.tensor", "6") ==
          "plan.bits_granularity.tensor = 6 (command line): must be a power of two");
    CHECK(contains(error_of_value("plan.mesh", "datta=1"), "there is no axis datta: the nearest is data"));
    CHECK(contains(error_of_value("plan.mesh", "data"), "is not an axis with its size"));
    CHECK(contains(error_of_value("plan.mesh", "data=0"), "is not an axis with its size"));
    CHECK(contains(error_of_value("plan.mesh", "data=1,data=1"), "twice"));
    CHECK(error_of_value("plan.mesh", "data=1,tensor=1").empty());
    CHECK(error_of_value("plan.schedule", "csv:a.csv").empty());
    CHECK(error_of_value("plan.schedule", "1f1p") ==
          "plan.schedule = \"1f1p\" (command line): must be one of gpipe, 1f1b, interleaved, zb-h1, zb-v, "
          "csv:FILE; the nearest is 1f1b");
    std::pair<char const*, char const*> const bad[] = {{"model.family", "lama"},
                                                       {"model.dim", "0"},
                                                       {"model.dim", "-8"},
                                                       {"model.layers", "0"},
                                                       {"model.heads", "0"},
                                                       {"model.heads", "256"},
                                                       {"model.kv_heads", "-1"},
                                                       {"model.hidden", "-1"},
                                                       {"model.vocab", "255"},
                                                       {"model.dropout", "1"},
                                                       {"model.dropout", "-0.1"},
                                                       {"model.rope_base", "0"},
                                                       {"model.norm_eps", "0"},
                                                       {"data.validation", "1.0"},
                                                       {"data.validation", "-0.5"},
                                                       {"data.batch", "0"},
                                                       {"data.seq", "0"},
                                                       {"data.max_bytes", "-1"},
                                                       {"data.extensions", "txt"},
                                                       {"optimizer.rate", "0"},
                                                       {"optimizer.min_rate", "1"},
                                                       {"optimizer.warmup", "-1"},
                                                       {"optimizer.beta1", "1"},
                                                       {"optimizer.beta2", "1.5"},
                                                       {"optimizer.eps", "0"},
                                                       {"optimizer.clip", "-1"},
                                                       {"optimizer.master", "f16"},
                                                       {"optimizer.master", "bf16"},
                                                       {"optimizer.weight_decay", "-1"},
                                                       {"plan.zero", "4"},
                                                       {"plan.zero", "-1"},
                                                       {"plan.schedule", "2f2b"},
                                                       {"plan.schedule", "csv:FILE"},
                                                       {"plan.virtual_stages", "0"},
                                                       {"plan.micro_batches", "0"},
                                                       {"plan.micro_batches", "32"},
                                                       {"plan.bits", "exact"},
                                                       {"plan.bits_granularity.batch", "0"},
                                                       {"plan.bits_granularity.data", "16"},
                                                       {"plan.lines", "shrad a b 0"},
                                                       {"plan.loss_chunk", "-1"},
                                                       {"checkpoint.every", "-1"},
                                                       {"checkpoint.keep", "0"},
                                                       {"run.out", ""},
                                                       {"run.seed", "-1"},
                                                       {"run.steps", "0"},
                                                       {"run.threads", "-1"},
                                                       {"run.validate_every", "-1"},
                                                       {"run.validate_batches", "0"},
                                                       {"plan.mesh", "context=2"},
                                                       {"plan.lines", "store a data 0 of b"},
                                                       {"plan.lines", "shard a data -1"},
                                                       {"run.cluster", "slurm"},
                                                       {"run.cluster", "threads"},
                                                       {"run.cluster", "threads:0"},
                                                       {"run.cluster", "threads:2x"},
                                                       {"run.cluster", "threads:1025"},
                                                       {"run.device", "tpu"}};
    for (auto [key, text] : bad) {
        auto message = error_of_value(key, text);
        INFO(key << "=" << text << ": " << message);
        CHECK(message.starts_with(std::string(key) + " = "));
        CHECK(contains(message, "(command line): "));
    }
}

TEST_CASE("what this version cannot do is refused by name") {
    CHECK(contains(error_of_value("run.cluster", "sim:gb200"), "is not in this version yet: use "));
    std::pair<char const*, char const*> const now[] = {
        {"plan.bits_granularity", "{batch = 8, data = 8, tensor = 8}"},
        {"plan.mesh", "replica=2,data=2"},
        {"plan.mesh", "data=1,pipeline=4"},
        {"plan.zero", "3"},
        {"plan.bits", "layout"},
        {"plan.lines", "[\"store ** data * of optimizer\", \"shard **.q.weight tensor 0\"]"},
        {"run.cluster", "threads:1"},
        {"run.cluster", "threads:1024"},
        {"run.cluster", "mpi"},
        {"run.cluster", "nccl"},
        {"run.device", "cuda"}};
    for (auto [key, text] : now) {
        INFO(key << "=" << text);
        CHECK(error_of_value(key, text).empty());
    }
}

TEST_CASE("a mesh must be the world, divide the batch and lie within the granularity") {
    auto error = [](std::string const& mesh, int ranks, std::vector<Override> more = {}) {
        if (!mesh.empty()) more.push_back(override_of("plan.mesh", mesh));
        more.push_back(override_of("run.cluster", fmt::format("threads:{}", ranks)));
        auto config = with(more);
        check_config(config);
        auto message = message_of<UsageError>([&] { mesh_of(config, ranks); });
        CHECK_FALSE(contains(message, "\n"));
        return message;
    };
    Override const layout = override_of("plan.bits", "layout");
    auto batch = [](std::string const& n) { return override_of("data.batch", n); };
    auto micro = [](std::string const& n) { return override_of("plan.micro_batches", n); };

    CHECK(error("data=2", 2).empty());
    CHECK(error("replica=2,data=4", 8, {layout}).empty());
    CHECK(error("", 4, {layout, micro("8")}).empty());
    CHECK(error("data=4", 4, {micro("2")}).empty());
    CHECK(mesh_of(with({}), 4) == MeshSizes{{"data", 4}});
    CHECK(mesh_of(with({override_of("plan.mesh", "replica=4")}), 4) == MeshSizes{{"replica", 4}});

    CHECK(contains(error("data=4", 2),
                   "plan.mesh = \"data=4\" (command line): has 4 ranks, but run.cluster = "
                   "\"threads:2\" has 2"));
    CHECK(error("data=3", 3) == "data.batch = 16 (default): replica x data = 3 must divide it: use 15 or 18");
    CHECK(error("data=32", 32) ==
          "data.batch = 16 (default): replica x data = 32 must divide it: use 32 or 64");
    CHECK(error("data=2", 2, {batch("12"), micro("3")}) ==
          "plan.micro_batches = 3 (command line): must be a multiple of replica x data = 2");
    CHECK(contains(error("data=3", 3, {layout, batch("24")}),
                   "plan.mesh = \"data=3\" (command line): bits = \"layout\" wants axes that are powers of "
                   "two, not data = 3"));
    CHECK(contains(error("", 3, {layout, batch("24")}), "run.cluster = \"threads:3\" (command line): "));
    CHECK(contains(error("data=2", 2, {layout, batch("48"), micro("6")}),
                   "plan.micro_batches = 6 (command line): must be a power of two"));
    CHECK(
        error("replica=2,data=8", 16, {layout}) ==
        "plan.bits_granularity.data = 8 (default): replica x data = 16 is beyond it, and the bits depend on "
        "it: 16 would cover it");
    CHECK(
        contains(error("data=2", 2, {layout, micro("16")}),
                 "plan.bits_granularity.batch = 8 (default): replica x data x micro-batches in time = 16 is "
                 "beyond it"));
    CHECK(
        error("data=2", 2, {layout, micro("16"), override_of("plan.bits_granularity.batch", "16")}).empty());
    CHECK(error_of_value("plan.bits_granularity.batch", "32").empty());
    CHECK(contains(error_of("", {layout, batch("20")}),
                   "data.batch = 20 (command line): plan.bits = \"layout\" cuts it into "
                   "plan.bits_granularity.batch = 8 leaves"));
}

TEST_CASE("what shard lines divide of the model is checked by its key, with sizes that do") {
    auto error = [](std::vector<Override> more, std::string const& lines = "[\"megatron tensor\"]") {
        more.push_back(override_of("plan.lines", lines));
        more.push_back(override_of("plan.mesh", "tensor=4"));
        more.push_back(override_of("run.cluster", "threads:4"));
        auto config = with(more);
        check_config(config);
        return message_of<UsageError>([&] { mesh_of(config, 4); });
    };
    auto vocab = [](char const* n) { return override_of("model.vocab", n); };
    auto layout = [](char const* granule) {
        return std::vector<Override>{override_of("plan.bits", "layout"),
                                     override_of("plan.bits_granularity.tensor", granule)};
    };
    CHECK(error({}).empty());
    CHECK(error({vocab("260")}).empty());
    CHECK(error({vocab("257")}).empty());
    auto canonical = layout("8");
    canonical.push_back(vocab("257"));
    CHECK(error(canonical).empty());
    // Only the axis tensor has its vocabulary padded.
    auto config = with({vocab("257"), override_of("plan.mesh", "data=4"),
                        override_of("plan.lines", "[\"shard **.weight data 0\"]")});
    CHECK(
        contains(message_of<UsageError>([&] { mesh_of(config, 4); }),
                 "model.vocab = 257 (command line): \"shard **.weight data 0\" divides it into 4 blocks: use "
                 "260; tokens that no text has are never drawn"));
    auto heads = [](char const* n) { return override_of("model.heads", n); };
    auto dim = override_of("model.dim", "96");
    CHECK(error({dim, heads("6")}) ==
          "model.heads = 6 (command line): \"megatron tensor\" divides it into 4 blocks: use 4 or 8");
    CHECK(contains(error({dim, heads("2")}), "into 4 blocks: use 4"));
    CHECK(contains(error({dim, heads("6")}, "[\"shard **.o.weight tensor 1\"]"), "model.heads = 6"));
    CHECK(contains(error({override_of("model.hidden", "130")}), "into 4 blocks: use 128 or 132"));
}

TEST_CASE("a vocabulary that a line divides is padded to the granule, and under fast to the axis too") {
    auto rows = [](char const* lines, std::vector<Override> more, char const* mesh = "tensor=4") {
        more.insert(more.begin(),
                    {override_of("model.vocab", "257"), override_of("plan.lines", lines),
                     override_of("plan.mesh", mesh), override_of("plan.bits_granularity.tensor", "2")});
        return padded_vocab(with(more));
    };
    auto const* megatron = "[\"megatron tensor\"]";
    auto granule = [](char const* n) { return override_of("plan.bits_granularity.tensor", n); };
    auto layout = override_of("plan.bits", "layout");
    CHECK(rows(megatron, {}) == 260);
    CHECK(rows(megatron, {}, "") == 258);
    CHECK(rows(megatron, {}, "tensor=3") == 258);
    CHECK(rows(megatron, {granule("8")}) == 264);
    CHECK(rows(megatron, {layout}) == 258);
    for (auto const* mesh : {"", "tensor=2", "tensor=8"})
        CHECK(rows(megatron, {layout, granule("8")}, mesh) == 264);
    CHECK(rows(megatron, {override_of("model.vocab", "256")}) == 256);
    CHECK(rows("[\"shard tokens.weight tensor 0\"]", {}) == 260);
    for (auto const* lines :
         {"[]", "[\"shard blocks.** tensor 0\"]", "[\"shard **.weight tensor 1\"]",
          "[\"store tokens.weight tensor 0 of parameter\"]", "[\"shard tokens.weight data 0\"]"})
        CHECK(rows(lines, {}) == 257);
}

TEST_CASE("the nearest name counts swaps, and an exact name is nearest to itself") {
    CHECK(nearest_name("hedas", {"hidden", "heads", "head"}) == "heads");
    CHECK(nearest_name("sync", {"seed", "sync"}) == "sync");
    CHECK(nearest_name("x", {}) == "");
}

#endif
