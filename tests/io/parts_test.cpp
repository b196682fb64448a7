#ifdef PLAIT_HAS_JSON

#include "catch.hpp"
#include "plait/core/array.hpp"
#include "plait/io/checkpoint.hpp"
#include "plait/io/file.hpp"
#include "scratch.hpp"

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

using namespace plait;
namespace fs = std::filesystem;

namespace {

using Names = std::vector<std::string>;

Names names_in(fs::path const& folder) {
    Names found;
    for (auto const& e : fs::directory_iterator(folder)) found.push_back(e.path().filename());
    std::sort(found.begin(), found.end());
    return found;
}

NamedArray block(std::string name, Array const& a, Placement place = {}) {
    return {std::move(name), a.meta(), a.bytes(), place};
}

/// A run whose weight "w", f32[4, 3], is saved as two blocks of two rows.
struct Run {
    ScratchFolder folder;
    Array upper{Shape{2, 3}, std::vector<float>{0, 1, 2, 3, 4, 5}};
    Array lower{Shape{2, 3}, std::vector<float>{6, 7, 8, 9, 10, 11}};
    Array count{Shape{}, std::vector<std::int32_t>{7}};
    NamedArray first = block("w", upper, {{0, 0}, {4, 3}}), second = block("w", lower, {{2, 0}, {4, 3}});

    fs::path place_of(std::string const& name) const { return folder / "checkpoints" / name; }
    fs::path save(std::int64_t step, int keep = 2) {
        upper.values<float>()[0] = lower.values<float>()[0] = static_cast<float>(step);
        auto aside = begin_checkpoint(folder.path(), step);
        Manifest m;
        m.step = step;
        for (int r : {0, 1}) {
            std::vector<NamedArray> w{r ? second : first}, o{block("count", count)};
            for (auto& f : write_checkpoint_part(aside, step, {r, 2}, w, o)) m.files.push_back(f);
        }
        return finish_checkpoint(folder.path(), aside, m, keep);
    }
    std::string error_of_reading(std::vector<NamedArray> const& wanted) const {
        auto message =
            message_of<Error>([&] { find_checkpoint(folder.path()).checkpoint->copy_weights_to(wanted); });
        CHECK_FALSE(contains(message, "\n"));
        return message;
    }
};

}  // namespace

TEST_CASE("parts have the names that others know and are files that others open") {
    Run run;
    auto path = run.save(20);
    CHECK(names_in(path) == Names{"manifest.json", "optimizer-00001-of-00002.safetensors",
                                  "optimizer-00002-of-00002.safetensors",
                                  "weights-00001-of-00002.safetensors",
                                  "weights-00002-of-00002.safetensors"});
    CHECK(contains(
        get_text(path / "weights-00002-of-00002.safetensors"),
        R"({"__metadata__":{"block:w":"[2, 0] of [4, 3]","step":"20"},"w":{"dtype":"F32","shape":[2,3])"));
    CHECK(contains(get_text(path / "optimizer-00002-of-00002.safetensors"),
                   R"({"__metadata__":{"step":"20"},)"));
    CHECK(get_text(run.place_of("latest")) == "step-00000020\n");
    Array w(Meta{f32, {4, 3}});
    find_checkpoint(run.folder.path()).checkpoint->copy_weights_to(std::vector{block("w", w)});
    CHECK(w.at(0) == 20);
    CHECK(w.at(5) == 5);
    CHECK(w.at(11) == 11);
}

TEST_CASE("a checkpoint that was saved before there were blocks is read, and written the same today") {
    fs::path const old = std::string(TESTS_DIR) + "/golden/checkpoint_format_1";
    auto checkpoint = open_checkpoint(old);
    Array weight(Meta{f32, {2, 3}}), gain(Meta{bf16, {3}}), moment(Meta{f32, {2, 3}}), count(Meta{i32, {}});
    std::vector<NamedArray> weights{block("gain", gain), block("weight", weight)},
        optimizer{block("weight.m", moment), block("count", count)};
    checkpoint.copy_weights_to(weights);
    checkpoint.copy_optimizer_to(optimizer);
    for (int i = 0; i < 6; ++i) CHECK(weight.at(i) == i + 1);
    CHECK(gain.at(1) == -1);
    CHECK(moment.at(5) == 1.5);
    CHECK(count.item() == 3);
    Array column(Meta{f32, {2, 1}});
    checkpoint.copy_weights_to(std::vector{block("gain", gain), block("weight", column, {{0, 1}, {2, 3}})});
    CHECK(column.at(0) == 2);
    CHECK(column.at(1) == 5);

    ScratchFolder folder;
    auto now = save_checkpoint(folder.path(), checkpoint.manifest, weights, optimizer);
    CHECK(names_in(now) == Names{"manifest.json", "optimizer.safetensors", "weights.safetensors"});
    for (auto name : {"weights.safetensors", "optimizer.safetensors"})
        CHECK(get_text(now / name) == get_text(old / name));
    // Its manifest has since got a hash of every tensor.
    auto const& files = open_checkpoint(now).manifest.files;
    if (!files[0].xxh64) return;
    CHECK(files[0].xxh64 == checkpoint.manifest.files[0].xxh64);
    CHECK(checkpoint.manifest.files[0].tensors.empty());
    CHECK(files[0].tensors.size() == 2);
    CHECK(files[1].tensors.contains("weight.m"));
}

TEST_CASE("what a reader wants must be there, and the other way round; else nothing is copied") {
    Run run;
    run.save(20);
    Array half(Meta{f32, {4, 2}}), empty(Meta{f32, {0, 3}}), other(Meta{f32, {2}}), wide(Meta{f64, {4, 3}});
    half.values<float>()[0] = -1;
    auto wanted = block("w", half, {{0, 1}, {4, 3}});
    CHECK(run.error_of_reading({block("w", empty, {{4, 0}, {4, 3}})}).empty());
    CHECK(contains(run.error_of_reading({}), "step-00000020: tensor \"w\" has no place in the model"));
    CHECK(contains(run.error_of_reading({wanted, block("v", other)}), "step-00000020 has no tensor \"v\""));
    CHECK(contains(run.error_of_reading({wanted, block("w", wide)}),
                   "tensor \"w\" is f32[4, 3], but f64[4, 3] is wanted"));
    CHECK(contains(run.error_of_reading({wanted, block("w", half)}),
                   "tensor \"w\" is f32[4, 3], but f32[4, 2] is wanted"));
    CHECK(contains(run.error_of_reading({wanted, block("w", half, {{1, 0}, {4, 3}})}),
                   "f32[4, 2] at [1, 0], which does not lie in its whole, [4, 3]"));
    SECTION("a hole is named") {
        Array corner(Meta{f32, {1, 2}});
        run.second = block("w", corner, {{2, 0}, {4, 3}});
        run.save(30);
        CHECK(contains(run.error_of_reading({wanted}),
                       "tensor \"w\" is incomplete: nothing holds the [1, 2] at [3, 1] of its f32[4, 3]"));
        Array there(Meta{f32, {3, 2}});
        CHECK(run.error_of_reading({block("w", there, {{0, 0}, {4, 3}})}).empty());
        CHECK(there.at(3) == 4);
    }
    SECTION("parts that disagree are named") {
        run.second.place.logical[1] = 4;
        run.save(30);
        CHECK(contains(run.error_of_reading({wanted}),
                       "tensor \"w\" is f32[4, 3] in weights-00001-of-00002.safetensors, but f32[4, 4] in "
                       "weights-00002-of-00002.safetensors"));
        run.second = block("w", wide);
        run.save(40);
        CHECK(contains(run.error_of_reading({wanted}),
                       "f32[4, 3] in weights-00001-of-00002.safetensors, but f64"));
    }
    CHECK(half.at(0) == -1);
    run.second = block("w", run.lower, {{2, 0}, {4, 3}});
    run.save(50);
    CHECK(run.error_of_reading({wanted}).empty());
    CHECK(half.at(0) == 1);
}

TEST_CASE("of blocks that overlap, the first part's is taken") {
    Run run;
    run.second = block("w", run.lower, {{1, 0}, {4, 3}});
    Array last(Meta{f32, {1, 3}});
    auto aside = begin_checkpoint(run.folder.path(), 1);
    Manifest m;
    m.step = 1;
    std::vector<NamedArray> const held{run.first, run.second, block("w", last, {{3, 0}, {4, 3}})};
    for (int r : {2, 1, 0})
        for (auto& f : write_checkpoint_part(aside, 1, {r, 3},
                                             std::span(held).subspan(static_cast<std::size_t>(r), 1), {}))
            m.files.push_back(f);
    finish_checkpoint(run.folder.path(), aside, m);
    Array w(Meta{f32, {4, 3}});
    CHECK(run.error_of_reading({block("w", w)}).empty());
    std::vector<float> const expected{0, 1, 2, 3, 4, 5, 9, 10, 11, 0, 0, 0};
    CHECK(std::ranges::equal(w.values<float>(), expected));
}

TEST_CASE("a checkpoint with a part missing or damaged is none") {
    Run run;
    run.save(10);
    auto path = run.save(20);
    for (auto name : {"weights-00002-of-00002.safetensors", "optimizer-00001-of-00002.safetensors"}) {
        auto whole = get_text(path / name);
        auto expect_older = [&] {
            auto found = find_checkpoint(run.folder.path());
            REQUIRE(found.checkpoint);
            CHECK(found.checkpoint->manifest.step == 10);
            REQUIRE(found.notes.size() == 1);
            CHECK(contains(found.notes[0], name));
        };
        put_text(path / name, whole.substr(0, whole.size() - 1));
        expect_older();
        fs::remove(path / name);
        expect_older();
        put_text(path / name, whole);
        CHECK(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 20);
    }
}

TEST_CASE("a manifest must list every part of one checkpoint") {
    Run run;
    auto path = run.save(20);
    auto error = [&](Names const& listed) {
        std::string files;
        for (auto const& name : listed)
            files += (files.empty() ? "" : ",") + std::string("{\"bytes\":1,\"name\":\"") + name + "\"}";
        put_text(path / "manifest.json",
                 R"({"format":1,"step":20,"seed":1,"data_cursor":20,"tokens":1,"strings":{},"files":[)" +
                     files + "]}");
        auto message = message_of<Error>([&] { open_checkpoint(path); });
        CHECK_FALSE(contains(message, "\n"));
        return message;
    };
    std::string const w = "weights-0000", o = "optimizer.safetensors", of = "-of-00002.safetensors";
    CHECK(
        contains(error({w + "1" + of, o}), "manifest.json does not list weights-00002-of-00002.safetensors"));
    CHECK(contains(error({w + "2" + of, o}), "does not list weights-00001-of-00002.safetensors"));
    CHECK(contains(error({o}), "does not list weights.safetensors"));
    CHECK(contains(error({w + "1" + of, w + "2" + of}), "does not list optimizer.safetensors"));
    CHECK(contains(error({w + "1" + of, w + "1" + of, o}), "lists weights-00001-of-00002.safetensors twice"));
    CHECK(contains(
        error({w + "1" + of, w + "2-of-00003.safetensors", o}),
        "lists weights-00001-of-00002.safetensors and weights-00002-of-00003.safetensors, which are"));
    CHECK(contains(error({"weights.safetensors", w + "2" + of, o}), "parts of two checkpoints"));
    // Names of no part: a number too large or zero, a sign, other spellings.
    for (auto name : {"3-of-00002", "0-of-00002", "+-of-00002", "1-of-00001", "1-of-2"})
        CHECK(contains(error({w + name + ".safetensors", o}), "does not list weights.safetensors"));
    CHECK(contains(error({"weights.safetensors", o, "../x\\n"}),
                   R"(lists the file "../x\n", which is not beside it)"));
    CHECK(contains(error({w + "1" + of, w + "2" + of, o}), "expected 1 bytes"));
}

TEST_CASE("a save is finished only with all its parts, and leaves nothing otherwise") {
    Run run;
    run.save(10);
    auto aside = begin_checkpoint(run.folder.path(), 20);
    Manifest m;
    m.step = 20;
    std::vector<NamedArray> w{run.first};
    m.files = write_checkpoint_part(aside, 20, {0, 2}, w, {});
    auto finish = [&] {
        return message_of<Error>([&] { finish_checkpoint(run.folder.path(), aside, m, 1); });
    };
    CHECK(contains(finish(), "does not list weights-00002-of-00002.safetensors"));
    // As when another machine has a disk of its own.
    for (auto f : {"weights-00002-of-00002.safetensors", "optimizer-00002-of-00002.safetensors"})
        m.files.push_back({f, 100, {}, {}});
    CHECK(contains(finish(), "weights-00002-of-00002.safetensors is missing"));
    CHECK(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 10);
    CHECK(get_text(run.place_of("latest")) == "step-00000010\n");

    SECTION("abandoned") { abandon_checkpoint(run.folder.path()); }
    SECTION("left alone until the next save begins") {
        auto next = begin_checkpoint(run.folder.path(), 30);
        CHECK_FALSE(fs::exists(aside));
        CHECK(names_in(next).empty());
        CHECK(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 10);
        abandon_checkpoint(run.folder.path());
    }
    CHECK(names_in(run.folder / "checkpoints") == Names{"latest", "step-00000010"});
    abandon_checkpoint(run.folder / "nothing");
    CHECK(contains(message_of<Error>([&] { finish_checkpoint(run.folder.path(), run.folder.path(), m, 1); }),
                   "is not where step 20"));
    CHECK(contains(message_of<UsageError>([&] { finish_checkpoint(run.folder.path(), aside, m, 0); }),
                   "checkpoint.keep is 0"));
    for (auto part :
         {CheckpointPart{2, 2}, CheckpointPart{-1, 2}, CheckpointPart{0, 0}, CheckpointPart{0, 100'000}})
        CHECK(contains(message_of<Error>([&] { write_checkpoint_part(aside, 20, part, w, {}); }),
                       "1 to 99999 parts"));
}

TEST_CASE("a process killed while parts are saved harms nothing saved before") {
    Run run;
    run.save(1, 1);
    Array w(Meta{f32, {4, 3}});
    for (int trial = 0; trial < 20; ++trial) {
        auto child = ::fork();
        if (child == 0)
            for (int step = 2;; ++step) run.save(step, 1);
        ::usleep(static_cast<useconds_t>(500 + trial * 700));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        auto found = find_checkpoint(run.folder.path());
        REQUIRE(found.checkpoint);
        REQUIRE(found.notes.empty());
        found.checkpoint->copy_weights_to(std::vector{block("w", w)});
        REQUIRE(w.at(0) == static_cast<double>(found.checkpoint->manifest.step));
        REQUIRE(w.at(6) == w.at(0));
    }
}

#endif
