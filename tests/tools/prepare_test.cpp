#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/prepare.hpp"

#include "catch.hpp"
#include "scratch.hpp"

#include <random>

using namespace plait;
using namespace plait::tools;

namespace {

std::string random_lines(std::mt19937& random, std::size_t size, bool lines = true) {
    std::string text;
    while (text.size() < size) {
        auto const n = random() % 10;
        text += n == 0 && lines ? "\n" : n == 1 ? "\xe2\x82\xac" : std::string(1, static_cast<char>('a' + n));
    }
    return text;
}

Collection divided(std::string const& text, double fraction) {
    Collection c;
    divide(text, hash_bytes(text), 3, fraction, c);
    return c;
}

PrepareArguments arguments_for(std::vector<std::string> paths) {
    PrepareArguments a;
    a.out = "nowhere";
    a.paths = std::move(paths);
    return a;
}

/// Names of the files that a walk of `folder` finds, below it.
std::vector<std::string> found(std::filesystem::path const& folder, PrepareArguments a) {
    FileCounts counts;
    a.paths = {folder.string()};
    std::vector<std::string> names;
    for (auto const& f : find_files(a, counts)) names.push_back(f.lexically_relative(folder).string());
    return names;
}

}  // namespace

TEST_CASE("a file is divided once, at line ends, and by its contents alone") {
    std::mt19937 random(4);
    double validation = 0, all = 0;
    for (int round = 0; round < 200; ++round) {
        auto const lines = round % 5 != 0;
        auto const text = random_lines(random, random() % 700'000, lines);
        auto const fraction = 0.05 + 0.1 * (round % 3);
        auto const c = divided(text, fraction);
        auto documents = c.train;
        documents.insert(documents.end(), c.validation.begin(), c.validation.end());
        std::sort(documents.begin(), documents.end(), [](auto& a, auto& b) { return a.begin < b.begin; });
        std::int64_t end = 0;
        for (auto const& d : documents) {
            REQUIRE(d.file == 3);
            REQUIRE(d.begin == end);
            REQUIRE(d.end > d.begin);
            if (d.begin > 0 && lines) REQUIRE(text[static_cast<std::size_t>(d.begin - 1)] == '\n');
            if (d.begin > 0) REQUIRE((text[static_cast<std::size_t>(d.begin)] & 0xc0) != 0x80);
            end = d.end;
        }
        REQUIRE(end == std::ssize(text));
        for (auto const& d : c.validation) validation += static_cast<double>(d.bytes()) / fraction;
        all += static_cast<double>(text.size());
    }
    CHECK(validation / all == Approx(1).margin(0.1));
    CHECK(divided(random_lines(random, 500'000), 0).validation.empty());
    CHECK(divided("", 0.5).train.empty());
}

TEST_CASE("a document is never longer than 16 MiB") {
    std::string text(40 << 20, 'x');
    auto const c = divided(text, 0);
    REQUIRE(c.train.size() == 3);
    for (auto const& d : c.train) CHECK(d.bytes() <= 16 << 20);
    CHECK(c.train.back().end == std::ssize(text));
}

TEST_CASE("globs choose among files in folders") {
    CHECK(path_matches("*.cpp", "a/b/c.cpp"));
    CHECK_FALSE(path_matches("*.cpp", "a/b.cpp/c"));
    CHECK(path_matches("a/*.cpp", "a/c.cpp"));
    CHECK_FALSE(path_matches("a/*.cpp", "a/b/c.cpp"));
    CHECK(path_matches("a/**/*.cpp", "a/b/d/c.cpp"));
    CHECK(path_matches("a/**/*.cpp", "a/c.cpp"));
    CHECK(path_matches("build/**", "build/x/y"));
    CHECK_FALSE(path_matches("build/**", "a/build/x"));
    CHECK(path_matches("**/build/**", "a/build/x"));

    ScratchFolder folder;
    for (auto const* name : {"b.cpp", "a/z.cpp", "a.txt", "a/b/c.hpp", ".git/x.cpp", "a/.hidden"})
        put_text(folder / name, name);
    std::filesystem::create_symlink(folder / "b.cpp", folder / "link.cpp");
    using Names = std::vector<std::string>;
    CHECK(found(folder.path(), {}) == Names{"a.txt", "a/b/c.hpp", "a/z.cpp", "b.cpp"});
    PrepareArguments a;
    a.include = {"*.cpp", "*.hpp"};
    CHECK(found(folder.path(), a) == Names{"a/b/c.hpp", "a/z.cpp", "b.cpp"});
    a.exclude = {"a/b/**"};
    CHECK(found(folder.path(), a) == Names{"a/z.cpp", "b.cpp"});
    a.out = (folder / "a").string();
    CHECK(found(folder.path(), a) == Names{"b.cpp"});
    FileCounts counts;
    auto named = arguments_for({(folder / "b.cpp").string(), (folder / "a.txt").string()});
    named.include = {"*.py"};
    CHECK(find_files(named, counts).size() == 2);
    CHECK_THAT(message_of<UsageError>([&] { find_files(arguments_for({"/no/such"}), counts); }),
               ContainsSubstring("/no/such"));
}

TEST_CASE("files are left out for a reason, and which ones are on which side does not depend on others") {
    ScratchFolder folder;
    std::mt19937 random(8);
    for (int i = 0; i < 60; ++i) put_text(folder / fmt::format("f{:02}", i), random_lines(random, 500));
    auto sides = [&](PrepareArguments const& a, FileCounts& counts) {
        ThreadPool pool(2);
        auto const c = collect(a, find_files(a, counts), pool, counts);
        std::map<std::string, bool> side;
        for (auto const& d : c.train) side[c.files[d.file].filename()] = false;
        for (auto const& d : c.validation) side[c.files[d.file].filename()] = true;
        return side;
    };
    auto a = arguments_for({folder.path().string()});
    a.validation = 0.3;
    FileCounts counts;
    auto const before = sides(a, counts);
    CHECK(before.size() == 60);
    CHECK(counts == FileCounts{{"used", 60}});

    put_text(folder / "a_new", "a new file, first of all");
    put_text(folder / "copy", get_text(folder / "f07"));
    put_text(folder / "empty", "");
    put_text(folder / "binary", std::string_view("a\0b", 3));
    put_text(folder / "latin", "caf\xe9");
    put_text(folder / "large", std::string(2000, 'x'));
    a.max_file_bytes = 1000;
    counts.clear();
    auto after = sides(a, counts);
    // The copy comes before what it is a copy of.
    CHECK(
        counts ==
        FileCounts{
            {"used", 61}, {"duplicate", 1}, {"empty", 1}, {"binary", 1}, {"not UTF-8", 1}, {"too large", 1}});
    CHECK(after.erase("a_new") == 1);
    REQUIRE(after.contains("copy"));
    CHECK(after.at("copy") == before.at("f07"));
    after.erase("copy");
    auto expected = before;
    expected.erase("f07");
    CHECK(after == expected);

    a.max_bytes = 5000;
    counts.clear();
    CHECK(sides(a, counts).size() < 12);
    CHECK(counts["beyond --max-bytes"] > 50);
}

#endif
