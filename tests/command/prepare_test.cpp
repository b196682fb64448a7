#if defined(PLAIT_COMMAND) && defined(PLAIT_HAS_PCRE2)

#include "command.hpp"

#include <sys/file.h>

#include <map>
#include <random>

namespace {

namespace fs = std::filesystem;

Arguments prepare(fs::path const& out, Arguments const& more = {}) {
    auto all = Arguments{"prepare", "--out", out.string()} + more;
    for (auto const& [name, value] : {std::pair{"--vocab", "600"}, {"--shard-tokens", "20000"}})
        if (std::find(more.begin(), more.end(), name) == more.end()) all = all + Arguments{name, value};
    return all;
}

/// The project's own text, a megabyte.
Arguments const own{"include", "src", "docs", "--exclude", "*.txt"};

/// Names and contents of all files below a folder.
std::map<std::string, std::string> contents(fs::path const& folder) {
    std::map<std::string, std::string> all;
    for (auto const& e : fs::recursive_directory_iterator(folder))
        if (e.is_regular_file()) all[e.path().lexically_relative(folder).string()] = get_text(e.path());
    return all;
}

}  // namespace

TEST_CASE("text is prepared to the same bytes by any number of threads") {
    ScratchFolder folder;
    auto f = good(prepare(folder / "1", own + Arguments{"--threads", "1"}));
    CHECK_THAT(f.out, ContainsSubstring("bytes per token"));
    CHECK(f.out.find('\r') == f.out.npos);  // no progress line where there is no terminal
    auto const want = contents(folder / "1");
    CHECK(want.size() > 8);
    CHECK(want.contains("tokenizer.json"));
    CHECK(want.contains("validation-00000.safetensors"));
    CHECK_FALSE(want.contains("prepare-state.json"));
    for (auto const* threads : {"2", "4"}) {
        good(prepare(folder / threads, own + Arguments{"--threads", threads}));
        CHECK(contents(folder / threads) == want);
    }
    // Finished work is looked at, not done again.
    auto again = good(prepare(folder / "1", own));
    CHECK_THAT(again.out, ContainsSubstring("prepared already"));
    CHECK(contents(folder / "1") == want);
    // Control: other text gives other bytes.
    good(prepare(folder / "other", {"include"}));
    CHECK(contents(folder / "other") != want);
}

TEST_CASE("a preparation that was killed goes on to the bytes of one that was not") {
    ScratchFolder folder;
    auto const small = own + Arguments{"--shard-tokens", "10000"};
    auto const start = std::chrono::steady_clock::now();
    good(prepare(folder / "whole", small));
    auto const took = std::chrono::steady_clock::now() - start;
    auto const want = contents(folder / "whole");
    std::mt19937 random(std::random_device{}());
    int killed = 0;
    for (int run = 0; run < 4; ++run) {
        auto const out = folder / fmt::format("killed{}", run);
        for (int i = 0; i < 5; ++i) {
            Process process(prepare(out, small), SOURCE_DIR);
            std::this_thread::sleep_for(took * (random() % 1000) / 1000);
            process.signal(SIGKILL);
            killed += process.wait().code == 128 + SIGKILL;
        }
        good(prepare(out, small));
        REQUIRE(contents(out) == want);
    }
    CHECK(killed > 0);
}

TEST_CASE("plait prepare refuses in one line what cannot be") {
    ScratchFolder folder;
    auto const out = folder / "out";
    refused(2, "there is no option --vocap: the nearest is --vocab", prepare(out, {"docs", "--vocap", "5"}));
    refused(2, "PATH", prepare(out));
    refused(2, "--out", {"prepare", "docs"});
    refused(2, "--vocab 256", prepare(out, {"docs", "--vocab", "256"}));
    refused(2, "--validation 1", prepare(out, {"docs", "--validation", "1"}));
    refused(2, "--format csv", prepare(out, {"docs", "--format", "csv"}));
    refused(2, "--shard-tokens 0", prepare(out, {"docs", "--shard-tokens", "0"}));
    refused(2, "/no/such", prepare(out, {"/no/such"}));
    refused(2, "none.json", prepare(out, {"docs", "--tokenizer", (folder / "none.json").string()}));
    refused(2, "holds other files", prepare("docs", {"include"}));
    put_text(folder / "in/binary", std::string_view("\0", 1));
    put_text(folder / "in/empty", "");
    refused(2, "no text is left: 0 files used; 1 binary; 1 empty left out",
            prepare(out, {(folder / "in").string()}));
    put_text(folder / "in/tiny.txt", "tiny");
    refused(2, "--validation", prepare(out, {(folder / "in").string(), "--validation", "0.9999999"}));
    CHECK_FALSE(fs::exists(out));
    CHECK_THAT(good(prepare(out, {(folder / "in").string()})).out,
               ContainsSubstring("gives no more than 257 tokens"));
    refused(2, "vocab = 600, now it is 700", prepare(out, {(folder / "in").string(), "--vocab", "700"}));
    put_text(folder / "in/more.txt", "more");
    refused(2, "other text", prepare(out, {(folder / "in").string()}));
    put_text(out / "manifest.json", get_text(out / "manifest.json").substr(0, 200));
    refused(2, "manifest.json: it is damaged", prepare(out, {(folder / "in").string()}));

    fs::create_directories(folder / "busy");
    int const held = ::open((folder / "busy").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(::flock(held, LOCK_EX) == 0);
    refused(2, "another plait prepare works there", prepare(folder / "busy", {"docs"}));
    ::close(held);
    good(prepare(folder / "busy", {"docs"}));
    auto const written = folder / "file";
    put_text(written, "x");
    refused(2, "not a folder", prepare(written, {"docs"}));
}

#endif
