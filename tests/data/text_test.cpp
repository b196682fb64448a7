#include "plait/data/text.hpp"

#include "catch.hpp"
#include "scratch.hpp"

#include <sys/stat.h>

using namespace plait;

namespace {

std::string all(Text const& t) { return {t.bytes.begin(), t.bytes.end()}; }

Text read(std::vector<std::string> const& paths, TextOptions const& options = {}) {
    return read_text(paths, options);
}

std::string error_of(std::vector<std::string> const& paths, TextOptions const& options = {}) {
    return message_of<UsageError>([&] { read_text(paths, options); });
}

}  // namespace

TEST_CASE("files and folders become documents in path order") {
    ScratchFolder folder;
    put_text(folder / "d/b.txt", "bb");
    put_text(folder / "d/a/z.txt", "az");
    put_text(folder / "d/a.txt", "a");
    put_text(folder / "d/empty.txt", "");
    put_text(folder / "one", "first");
    auto t = read({(folder / "one").string(), (folder / "d").string()});
    CHECK(all(t) ==
          "first"
          "a"
          "az"
          "bb");
    CHECK(t.ends == std::vector<std::int64_t>{5, 6, 8, 10});
    REQUIRE(t.documents() == 4);
    CHECK(t.document(2).size() == 2);
    CHECK(t.document(0)[0] == 'f');
}

TEST_CASE("links, devices, binary and filtered files are left out") {
    ScratchFolder folder;
    put_text(folder / "d/a.hpp", "kept");
    put_text(folder / "d/b.txt", "other");
    put_text(folder / "d/c.hpp", std::string_view("x\0y", 3));
    put_text(folder / "outside/e.hpp", "linked");
    std::filesystem::create_symlink(folder / "outside", folder / "d/link");
    std::filesystem::create_symlink(folder / "outside/e.hpp", folder / "d/e.hpp");
    std::filesystem::create_symlink(folder / "d", folder / "d/loop");
    REQUIRE(::mkfifo((folder / "d/pipe.hpp").c_str(), 0600) == 0);
    auto t = read({(folder / "d").string()}, {{".hpp"}, 0});
    CHECK(all(t) == "kept");
    CHECK(t.binary_files == 1);
    CHECK(contains(error_of({(folder / "d/pipe.hpp").string()}), "neither a file nor a folder"));
    // A path that the user names may be a link.
    CHECK(all(read({(folder / "d/link").string()})) == "linked");
}

TEST_CASE("the byte cap leaves whole files out") {
    ScratchFolder folder;
    put_text(folder / "d/a", "aaaa");
    put_text(folder / "d/b", "bbbb");
    put_text(folder / "d/c", "c");
    auto t = read({(folder / "d").string()}, {{}, 5});
    CHECK(all(t) == "aaaac");
    CHECK(t.capped_files == 1);
    CHECK(all(read({(folder / "d").string()}, {{}, 9})) == "aaaabbbbc");
}

TEST_CASE("no text is an error that says why") {
    ScratchFolder folder;
    auto missing = (folder / "missing").string();
    CHECK(contains(error_of({}), "data.path"));
    CHECK(contains(error_of({missing}), missing + " cannot be read: No such file"));
    put_text(folder / "d/empty", "");
    CHECK(contains(error_of({(folder / "d").string()}), "no text in"));
    put_text(folder / "d/binary", std::string_view("\0", 1));
    CHECK(contains(error_of({(folder / "d").string()}), "1 binary"));
    CHECK(contains(error_of({(folder / "d/binary").string()}), "1 binary"));
}
