#ifdef PLAIT_COMMAND

#include "command.hpp"

#include <cmath>
#include <set>

namespace {

/// What bits depend on: the rows without speed.
std::string numbers_of(std::filesystem::path const& run) {
    std::string text;
    for (auto const* key : {"step", "loss", "grad_norm", "learning_rate", "validation_loss", "params_hash"})
        for (auto const& v : column(run, key)) text += v + "\n";
    return text;
}

std::int64_t bytes_of_row(std::string const& report, std::string const& name) {
    for (auto const& line : lines_of(report))
        if (line.starts_with("  " + name + " ")) {
            auto text = line.substr(name.size() + 2, line.find(" B") - name.size() - 2);
            std::erase_if(text, [](char c) { return c == ' ' || c == ','; });
            return std::stoll(text);
        }
    return -1;
}

}  // namespace

TEST_CASE(
    "tiny.toml gives the same twenty hashes on a rerun, on 1, 2 and 4 threads, and when stopped and "
    "resumed") {
    ScratchFolder folder;
    auto train = [&](std::string const& name, Arguments const& more = {}) {
        return Arguments{"train",   "--config", "examples/configs/tiny.toml",           "--hash",
                         "--steps", "20",       "--run.out=" + (folder / name).string()} +
               more;
    };
    good(train("first"));
    auto hashes = column(folder / "first", "params_hash");
    REQUIRE(hashes.size() == 20);
    CHECK(std::set<std::string>(hashes.begin(), hashes.end()).size() == 20);
    for (auto const& h : hashes) CHECK((h.size() == 16 && h.find_first_not_of("0123456789abcdef") == h.npos));

    auto const numbers = numbers_of(folder / "first");
    for (auto const* threads : {"1", "2", "4"}) {
        good(train(threads, {"--run.threads=" + std::string(threads)}));
        CHECK(numbers_of(folder / threads) == numbers);
    }

    {
        Process run(train("stopped"), SOURCE_DIR);
        await_step(folder / "stopped", 7);
        run.signal(SIGINT);
        auto f = run.wait();
        CHECK(f.code == 0);
        CHECK_THAT(f.out, ContainsSubstring("stopped by SIGINT after step"));
        CHECK_THAT(f.out, ContainsSubstring("--resume"));
    }
    auto done = column(folder / "stopped", "step").size() - 1;
    REQUIRE((done >= 7 && done < 20));
    good(train("stopped", {"--resume"}));
    CHECK(numbers_of(folder / "stopped") == numbers);

    good(train("other", {"--run.seed=2"}));
    auto others = column(folder / "other", "params_hash");
    REQUIRE(others.size() == 20);
    for (std::size_t i = 0; i < 20; ++i) CHECK(others[i] != hashes[i]);
}

TEST_CASE("a step without --hash, and a validation every few steps, train the same weights") {
    ScratchFolder folder;
    good(small_run(folder / "a"));
    good(small_run(folder / "b", {"--run.validate_every=3", "--checkpoint.every=4"}));
    CHECK(column(folder / "a", "params_hash") == column(folder / "b", "params_hash"));
    CHECK(column(folder / "a", "validation_loss").size() == 2);
    CHECK(column(folder / "b", "validation_loss").size() == 5);  // 0 3 6 9 10
}

TEST_CASE("metrics.jsonl has a row a step with the documented keys; row 0 only validation") {
    ScratchFolder folder;
    CHECK(good(small_run(folder / "a")).out.starts_with("plait train: llama on"));
    auto rows = lines_of(get_text(folder / "a" / "metrics.jsonl"));
    REQUIRE(rows.size() == 11);
    CHECK(value_in(rows[0], "step") == "0");
    CHECK(value_in(rows[0], "loss").empty());
    auto bits = std::stod(value_in(rows[0], "validation_bits_per_byte"));
    CHECK(bits == Approx(std::stod(value_in(rows[0], "validation_loss")) / std::log(2.0)));
    CHECK((bits > 7.5 && bits < 9));
    for (int i = 1; i <= 10; ++i) {
        auto const& row = rows[static_cast<std::size_t>(i)];
        CHECK(value_in(row, "step") == std::to_string(i));
        for (auto const* key : {"loss", "grad_norm", "learning_rate", "tokens_per_second", "step_seconds"})
            CHECK(std::stod(value_in(row, key)) > 0);
        CHECK(value_in(row, "tokens") == std::to_string(i * 4 * 32));
        auto const mfu = std::stod(value_in(row, "mfu"));
        CHECK((mfu > 0 && mfu <= 1));
        CHECK(std::stoll(value_in(row, "memory_peak_bytes")) > 0);
        CHECK(value_in(row, "wire_bytes") == "0");
        CHECK(value_in(row, "validation_loss").empty() == (i != 10));
    }
    CHECK(std::stod(value_in(rows[10], "loss")) < std::stod(value_in(rows[1], "loss")));
}

TEST_CASE("both families train, with clipping off, dropout, bf16, recompute and untied heads") {
    ScratchFolder folder;
    good(
        small_run(folder / "gpt2", {"--model.family=gpt2", "--model.dropout=0.1", "--plan.micro_batches=2"}));
    good(small_run(folder / "llama", {"--model.kv_heads=1", "--optimizer.clip=0", "--plan.compute=bf16",
                                      "--plan.recompute=blocks.*", "--model.tied=true"}));
    good(small_run(folder / "none", {"--data.validation=0", "--run.steps=2"}));
    good(small_run(folder / "apart", {"--data.validation=LICENSE"}));
    CHECK(column(folder / "apart", "validation_loss").size() == 2);
    CHECK(column(folder / "none", "step") == std::vector<std::string>{"1", "2"});
}

TEST_CASE("a loss that is no number stops the run, names the step and leaves the weights") {
    ScratchFolder folder;
    auto f = plait(
        small_run(folder / "a", {"--optimizer.rate=1e30", "--optimizer.warmup=0", "--checkpoint.every=1"}));
    CHECK(f.code == 1);
    CHECK_THAT(f.err, ContainsSubstring("step 2: the loss is"));
    CHECK_THAT(f.err, ContainsSubstring("the weights stay those of step 1"));
    CHECK_THAT(f.err, ContainsSubstring("step-00000001"));
    auto hashes = column(folder / "a", "params_hash");
    REQUIRE(hashes.size() == 2);
    CHECK(hashes[0] == hashes[1]);
}

TEST_CASE("a dry run prints exact memory and takes none") {
    auto f = good({"train", "--dry-run", "--model.dim=4096", "--model.layers=32", "--model.heads=32",
                   "--model.kv_heads=8", "--model.hidden=14336", "--data.batch=8", "--data.seq=2048"});
    CHECK(f.most_kib < 500 * 1024);
    CHECK_THAT(f.out, ContainsSubstring("1 rank"));
    auto weights = bytes_of_row(f.out, "weights");
    CHECK(weights > std::int64_t{20} << 30);
    CHECK(bytes_of_row(f.out, "optimizer") == 2 * weights);
    std::int64_t sum = 0;
    for (auto const* kind :
         {"weights", "optimizer", "gradients", "activations", "inputs", "workspace", "gaps"})
        sum += bytes_of_row(f.out, kind);
    CHECK(bytes_of_row(f.out, "arena") == sum);
}

TEST_CASE("a run takes what the dry run promised, with a copy of the state where it saves on the way") {
    for (auto const* every : {"0", "1"}) {
        ScratchFolder folder;
        Arguments const more{"--data.batch=64", "--data.seq=256", "--checkpoint.every=" + std::string(every)};
        auto plan = good(small_run(folder / "a", more + Arguments{"--dry-run"}));
        auto run = good(small_run(folder / "a", more + Arguments{"--run.steps=3"}));
        auto arena = bytes_of_row(plan.out, "arena"), copy = bytes_of_row(plan.out, "checkpoint");
        CHECK(copy ==
              (*every == '0' ? 0 : bytes_of_row(plan.out, "weights") + bytes_of_row(plan.out, "optimizer")));
        for (auto const& v : column(folder / "a", "memory_peak_bytes")) CHECK(std::stoll(v) == arena);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        CHECK(run.most_kib * 1024.0 <= 1.02 * static_cast<double>(bytes_of_row(plan.out, "in all")));
#endif
    }
    // Each rank copies its share of the blocks: the run itself checks that it is the planned one.
    for (auto const* zero : {"0", "1", "3"}) {
        ScratchFolder folder;
        good(small_run(folder / "a", {"--run.cluster=threads:2", "--plan.zero=" + std::string(zero),
                                      "--checkpoint.every=1", "--run.steps=2"}));
    }
}

TEST_CASE("every dump prints something of its own and starts nothing") {
    ScratchFolder folder;
    auto dump = [&](std::string const& what) {
        return good(small_run(folder / "a", {"--dump", what, "--plan.micro_batches=4"})).out;
    };
    CHECK_THAT(dump("graph"), ContainsSubstring("rms_norm"));
    CHECK_THAT(dump("graph.dot"), ContainsSubstring("digraph"));
    CHECK_THAT(dump("program"), ContainsSubstring("loop 2 (4 x)"));
    CHECK_THAT(dump("memory"), ContainsSubstring("weights"));
    CHECK_THAT(dump("layout"), ContainsSubstring("partial(sum)"));
    CHECK_THAT(dump("schedule"), ContainsSubstring("micro-batch 3"));
    CHECK_THAT(dump("plan"), ContainsSubstring("mesh           replica=1, data=1, pipeline=1, tensor=1"));
    CHECK_FALSE(std::filesystem::exists(folder / "a"));
}

TEST_CASE("presets are printed with the lines that they stand for, and those make the same run") {
    ScratchFolder folder;
    std::string const own = "store norm.weight data * of optimizer";
    auto run = [&](std::string const& name, std::string const& lines, Arguments const& more) {
        return small_run(folder / name,
                         Arguments{"--plan.lines=" + lines, "--run.cluster=threads:2", "--plan.mesh=tensor=2",
                                   "--plan.bits=layout", "--data.batch=8", "--run.steps=2"} +
                             more);
    };
    auto const presets = "[\"megatron tensor\", \"sequence tensor\", \"" + own + "\"]";
    auto const lines = lines_of(good(run("a", presets, {"--plan.zero=1", "--dump", "plan"})).out);
    std::vector<std::string> made, names;
    for (auto const& line : lines) {
        if (line.starts_with("    ")) made.push_back(line.substr(4));
        else names.push_back(line);
    }
    for (auto const& name :
         {std::string("megatron tensor"), std::string("sequence tensor"), own, std::string("zero 1"),
          std::string("mesh           replica=1, data=1, "
                      "pipeline=1, tensor=2")}) {
        CAPTURE(name);
        CHECK(std::count(names.begin(), names.end(), name) == 1);
    }
    CHECK(made == std::vector<std::string>{
                      "shard blocks.**.{q,k,v,gate,up}.{weight,bias} tensor 0",
                      "shard blocks.**.{o,down}.weight tensor 1", "shard {tokens,head}.weight tensor 0",
                      "store {tokens,blocks.*}.out tensor 1 of activation", "store ** data * of optimizer"});
    std::string written;
    for (auto const& line : made) written += (written.empty() ? "[\"" : ", \"") + line + "\"";
    good(run("a", presets, {"--plan.zero=1"}));
    good(run("b", written + ", \"" + own + "\"]", {}));
    CHECK(column(folder / "a", "params_hash") == column(folder / "b", "params_hash"));
}

#endif
