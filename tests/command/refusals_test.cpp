#ifdef PLAIT_COMMAND

#include "command.hpp"

TEST_CASE("what cannot be trained is refused before step 1, and nothing is written") {
    ScratchFolder folder;
    auto out = folder / "a";
    put_text(folder / "empty.txt", "");
    put_text(folder / "short.txt", "only some words");
    auto run = [&](Arguments const& more) { return small_run(out, more); };

    refused(2, "no text is given", {"train", "--run.out=" + out.string()});
    refused(2, "No such file", run({"--data.path=/no/such.txt"}));
    refused(2, "no text in", run({"--data.path=" + (folder / "empty.txt").string()}));
    refused(2, "data.seq = 32 needs 33 tokens", run({"--data.path=" + (folder / "short.txt").string()}));
    refused(2, "No such file", run({"--data.validation=/no/such.txt"}));
    refused(2, "plan.micro_batches = 3", run({"--plan.micro_batches=3"}));
    refused(2, "'heads.*' names no module", run({"--plan.recompute=heads.*"}));
    refused(2, "\"**.wieght\" names no parameter", run({"--optimizer.decay_globs=**.wieght"}));
    refused(2, "the nearest is model.dim", run({"--model.dimm=3"}));
    refused(2, "wants an integer", run({"--model.dim=x"}));
    refused(2, "must divide it", run({"--model.dim=33"}));
    refused(2, "of memory, this machine has",
            run({"--model.dim=65536", "--model.layers=2", "--model.hidden=65536"}));
    refused(2, "no/such.toml", {"train", "--config", "no/such.toml"});
    CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("plan lines must name something that is there") {
    ScratchFolder folder;
    auto out = folder / "a";
    auto lines = [&](std::string const& line) { return small_run(out, {"--plan.lines=[\"" + line + "\"]"}); };
    refused(2, "names nothing", lines("shard **.qq.weight tensor 0"));
    refused(2, "names nothing", lines("store blocks.*.attention data 0 of activation"));
    refused(2, "so there is no dim 2", lines("shard **.q.weight tensor 2"));
    refused(2, "so there is no dim 2", lines("store **.q.weight data 2 of parameter"));
    refused(2, "plan.lines (command line): ", lines("store **.qq.weight data 0 of gradient"));
    refused(2, "there is no axis tensro", lines("shard **.q.weight tensro 0"));
    refused(2, "use parameter, gradient, optimizer", lines("store **.weight data 0 of optimiser"));
    refused(2, "write it like store", lines("store **.weight data 0"));
    CHECK_FALSE(std::filesystem::exists(out));
    good(small_run(out, {"--run.steps=1",
                         "--plan.lines=[\"shard **.{q,k,v}.weight tensor 0\", \"store blocks.*.out "
                         "tensor 1 of activation\"]"}));
}

TEST_CASE("a run folder that cannot be written is refused") {
    refused(2, "run.out = \"/dev/null/a\"", small_run("/dev/null/a"));
    refused(2, "run.out = \"/proc/plait\"", small_run("/proc/plait"));
}

#endif
