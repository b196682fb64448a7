#ifdef PLAIT_HAS_JSON

#include "plait/io/checkpoint.hpp"

#include "catch.hpp"
#include "plait/core/array.hpp"
#include "plait/io/file.hpp"
#include "scratch.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <map>

using namespace plait;
namespace fs = std::filesystem;

namespace {

struct Run {
    ScratchFolder folder;
    Array weight{Shape{64}, std::vector<float>(64, 1.0f)};
    Array moment{Shape{64}, std::vector<float>(64, 2.0f)};

    fs::path save(std::int64_t step, int keep = 2) {
        weight.values<float>()[0] = static_cast<float>(step);
        Manifest m;
        m.step = m.data_cursor = step;
        m.seed = 0xffffffffffffffffu;
        m.tokens = step * 1024;
        m.strings = {{"config", "[model]\ndim = 64\n"}};
        std::vector<NamedArray> w{{"w", weight.meta(), weight.bytes()}},
            o{{"w.m", moment.meta(), moment.bytes()}};
        return save_checkpoint(folder.path(), m, w, o, keep);
    }
    std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (auto const& e : fs::directory_iterator(folder / "checkpoints"))
            found.push_back(e.path().filename());
        std::sort(found.begin(), found.end());
        return found;
    }
    float first_weight(Checkpoint const& c) const {
        Array w(weight.meta());
        c.copy_weights_to(std::vector<NamedArray>{{"w", w.meta(), w.bytes()}});
        return w.values<float>()[0];
    }
};

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a checkpoint gives back what was saved") {
    Run run;
    CHECK_FALSE(find_checkpoint(run.folder.path()).checkpoint);
    CHECK(find_checkpoint(run.folder / "nothing").notes.empty());
    auto path = run.save(20);
    CHECK(path == run.folder / "checkpoints" / "step-00000020");
    auto found = find_checkpoint(run.folder.path());
    REQUIRE(found.checkpoint);
    CHECK(found.notes.empty());
    auto const& m = found.checkpoint->manifest;
    CHECK(m.step == 20);
    CHECK(m.seed == 0xffffffffffffffffu);
    CHECK(m.data_cursor == 20);
    CHECK(m.tokens == 20480);
    CHECK(m.strings.at("config") == "[model]\ndim = 64\n");
    CHECK(run.first_weight(*found.checkpoint) == 20);
    Array moment(run.moment.meta());
    found.checkpoint->copy_optimizer_to(std::vector<NamedArray>{{"w.m", moment.meta(), moment.bytes()}});
    CHECK(moment.at(63) == 2);
    CHECK(run.names() == Names{"latest", "step-00000020"});
    CHECK(get_text(run.folder / "checkpoints" / "latest") == "step-00000020\n");
}

TEST_CASE("older checkpoints are pruned, newer ones and other files left alone") {
    Run run;
    run.save(50);
    put_text(run.folder / "checkpoints" / "notes.txt", "mine");
    for (int step : {10, 20, 30, 40}) run.save(step, 2);
    CHECK(run.names() == Names{"latest", "notes.txt", "step-00000030", "step-00000040", "step-00000050"});
    run.save(40, 1);
    CHECK(run.names() == Names{"latest", "notes.txt", "step-00000040", "step-00000050"});
    run.save(123456789, 1);
    CHECK(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 123456789);
}

TEST_CASE("saving a step again replaces it") {
    Run run;
    auto path = run.save(20);
    put_text(path / "weights.safetensors", "damaged");
    run.save(20);
    CHECK(run.first_weight(*find_checkpoint(run.folder.path()).checkpoint) == 20);
    CHECK(run.names() == Names{"latest", "step-00000020"});
}

TEST_CASE("damage anywhere makes the older checkpoint the newest") {
    Run run;
    run.save(10);
    auto path = run.save(20);
    REQUIRE(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 20);
    for (auto name : {"weights.safetensors", "optimizer.safetensors", "manifest.json"}) {
        auto whole = get_text(path / name);
        auto expect_older = [&](std::string_view what) {
            auto found = find_checkpoint(run.folder.path());
            INFO(name << " " << what);
            REQUIRE(found.checkpoint);
            REQUIRE(found.checkpoint->manifest.step == 10);
            REQUIRE(found.notes.size() == 1);
            REQUIRE(contains(found.notes[0], name));
            REQUIRE_FALSE(contains(found.notes[0], "\n"));
        };
        // Whitespace at a manifest's end means nothing, so its last byte may go.
        for (std::size_t n = 0; n + 1 < whole.size(); ++n) {
            put_text(path / name, whole.substr(0, n));
            expect_older("cut at " + std::to_string(n));
        }
        fs::remove(path / name);
        expect_older("missing");
        put_text(path / name, whole);
        CHECK(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 20);
    }
    fs::remove_all(path);
    fs::create_directory(path);
    CHECK(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 10);
}

TEST_CASE("a flipped bit in any file is found where hashes are stored") {
    Run run;
    auto path = run.save(20);
    if (!find_checkpoint(run.folder.path()).checkpoint->manifest.files[0].xxh64) return;
    for (auto name : {"weights.safetensors", "optimizer.safetensors", "manifest.json"}) {
        auto whole = get_text(path / name);
        for (std::size_t i = 0; i < whole.size(); ++i) {
            auto changed = whole;
            changed[i] = static_cast<char>(changed[i] ^ 1);
            put_text(path / name, changed);
            auto found = find_checkpoint(run.folder.path());
            INFO(name << " byte " << i << " " << whole[i]);
            REQUIRE_FALSE(found.checkpoint);
            REQUIRE(found.notes.size() == 1);
        }
        put_text(path / name, whole);
    }
}

TEST_CASE("a flipped bit is told with the file and the tensor, or the header") {
    Run run;
    run.save(10);
    auto path = run.save(20);
    auto const files = find_checkpoint(run.folder.path()).checkpoint->manifest.files;
    if (!files[0].xxh64) return;
    for (auto const& [name, tensor] :
         std::map<std::string, std::string>{{"weights.safetensors", "w"}, {"optimizer.safetensors", "w.m"}}) {
        auto const whole = get_text(path / name);
        auto told_of = [&](std::size_t i) {
            auto changed = whole;
            changed[i] = static_cast<char>(changed[i] ^ 4);
            put_text(path / name, changed);
            auto found = find_checkpoint(run.folder.path());
            CHECK(found.checkpoint->manifest.step == 10);
            return found.notes.at(0);
        };
        auto const data = whole.size() - 64 * 4;  // 64 floats
        for (auto i : {data, data + 100, whole.size() - 1})
            CHECK(contains(told_of(i), name + " is damaged in tensor \"" + tensor + "\""));
        for (std::size_t i : {std::size_t{0}, std::size_t{9}, data - 1})
            CHECK(contains(told_of(i), name + " is damaged in its header"));
        put_text(path / name, whole);
    }
}

TEST_CASE("what an interrupted save left is no checkpoint and goes at the next save") {
    Run run;
    run.save(10);
    fs::copy(run.folder / "checkpoints" / "step-00000010",
             run.folder / "checkpoints" / ".saving-step-00000020");
    CHECK(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 10);
    run.save(30);
    CHECK(run.names() == Names{"latest", "step-00000010", "step-00000030"});
}

TEST_CASE("a process killed while saving harms nothing saved before") {
    Run run;
    run.save(1, 1);
    for (int trial = 0; trial < 20; ++trial) {
        auto child = ::fork();
        if (child == 0) {
            for (int step = 2;; ++step) run.save(step, 1);
        }
        ::usleep(static_cast<useconds_t>(500 + trial * 700));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        auto found = find_checkpoint(run.folder.path());
        REQUIRE(found.checkpoint);
        REQUIRE(found.notes.empty());
        REQUIRE(run.first_weight(*found.checkpoint) == static_cast<float>(found.checkpoint->manifest.step));
    }
}

TEST_CASE("a save that cannot be written names the path and the reason, and leaves the last one") {
    Run run;
    run.save(10);
    SECTION("the run folder is a file") {
        put_text(run.folder / "file", "x");
        Manifest m;
        CHECK(contains(message_of<Error>([&] { save_checkpoint(run.folder / "file", m, {}, {}); }),
                       "Not a directory"));
    }
    SECTION("the disk is full") {
        // A limit on file size stands in for a full disk: write fails half-way in the same place.
        rlimit before{};
        ::getrlimit(RLIMIT_FSIZE, &before);
        auto handler = std::signal(SIGXFSZ, SIG_IGN);
        rlimit small{200, before.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &small);
        auto message = message_of<Error>([&] { run.save(20); });
        ::setrlimit(RLIMIT_FSIZE, &before);
        std::signal(SIGXFSZ, handler);
        CHECK(contains(message, "weights.safetensors: File too large"));
        CHECK(run.names() == Names{"latest", "step-00000010"});
        CHECK(find_checkpoint(run.folder.path()).checkpoint->manifest.step == 10);
    }
}

TEST_CASE("a file is replaced whole or not at all") {
    ScratchFolder folder;
    write_file_atomically(folder / "a", "one");
    write_file_atomically(folder / "a", "two");
    CHECK(read_file(folder / "a") == "two");
    CHECK_FALSE(fs::exists(folder / "a.new"));
    CHECK(contains(message_of<Error>([&] { write_file_atomically(folder / "no" / "a", "x"); }),
                   "No such file"));
    CHECK(contains(message_of<Error>([&] { read_file(folder / "b"); }), "No such file"));
    CHECK_FALSE(message_of<Error>([&] { read_file(folder.path()); }).empty());
}

#endif
