#if defined(PLAIT_HAS_TOML) && defined(PLAIT_HAS_CLI11)

#include "../../src/tools/text_stream.hpp"

#include "catch.hpp"

using namespace plait::tools;

TEST_CASE("characters are shown whole") {
    std::string const text = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z";  // 1, 2, 3 and 4 bytes
    TextStream stream;
    std::vector<std::string> shown;
    for (char c : text) {
        CHECK(stream.add(std::string_view(&c, 1)));
        if (auto piece = stream.take(); !piece.empty()) shown.push_back(piece);
    }
    CHECK(shown == std::vector<std::string>{"a", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "z"});
    CHECK(stream.take_rest().empty());
    CHECK(stream.text() == text);
}

TEST_CASE("bytes that begin no character are not waited for") {
    CHECK(unfinished_bytes("a") == 0);
    CHECK(unfinished_bytes("a\xC3") == 1);
    CHECK(unfinished_bytes("\xE2\x82") == 2);
    CHECK(unfinished_bytes("\xF0\x9F\x98") == 3);
    CHECK(unfinished_bytes("\xF0\x9F\x98\x80") == 0);
    CHECK(unfinished_bytes("\x80\x80\x80\x80") == 0);
    CHECK(unfinished_bytes("\xC3\xA4\x80") == 0);
    for (auto const* never : {"\xFF", "\xC0", "\xC1", "\xF5"}) CHECK(unfinished_bytes(never) == 0);
    CHECK(unfinished_bytes("") == 0);
    TextStream stream;
    stream.add("x\xE2");
    CHECK(stream.take() == "x");
    stream.add("y");
    CHECK(stream.take() == "\xE2y");
    stream.add("\xE2");
    CHECK(stream.take().empty());
    CHECK(stream.take_rest() == "\xE2");
}

TEST_CASE("a text ends before the string that stops it") {
    TextStream stream("END");
    CHECK(stream.add("one E"));
    CHECK(stream.take() == "one ");
    CHECK(stream.add("N"));
    CHECK(stream.take().empty());
    CHECK(stream.add("EN"));  // the first was none
    CHECK(stream.take() == "EN");
    CHECK(!stream.add("D more"));
    CHECK(stream.take().empty());
    CHECK(stream.text() == "one EN");

    TextStream whole("x");
    CHECK(!whole.add("abxcx"));
    CHECK(whole.take() == "ab");
    TextStream never("END");
    never.add("EN");
    CHECK(never.take().empty());
    CHECK(never.take_rest() == "EN");
    TextStream again("aab");
    for (char c : std::string("aaa")) again.add(std::string_view(&c, 1));
    CHECK(again.take() == "a");
    CHECK(!again.add("b"));
    CHECK(again.text() == "a");
}

#endif
