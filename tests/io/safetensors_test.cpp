#ifdef PLAIT_HAS_JSON

#include "plait/io/safetensors.hpp"

#include "catch.hpp"
#include "plait/core/array.hpp"
#include "scratch.hpp"

#include <cstring>

using namespace plait;

namespace {

struct Sample {
    Array weight{Shape{2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6}};
    Array half{Meta{bf16, {3}}};
    Array wide{Shape{2}, std::vector<double>{0.5, -0.25}};
    Array scalar{Shape{}, std::vector<std::int32_t>{-7}};
    Array none{Meta{f32, {0, 4}}};
    std::vector<NamedArray> list{{"half", half.meta(), half.bytes()},
                                 {"weight", weight.meta(), weight.bytes()},
                                 {"wide", wide.meta(), wide.bytes()},
                                 {"scalar", scalar.meta(), scalar.bytes()},
                                 {"none", none.meta(), none.bytes()}};
};

std::string with_header(std::string const& header, std::string const& data) {
    std::uint64_t length = header.size();
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    return file + header + data;
}

std::string error_of(std::filesystem::path const& path) {
    return message_of<Error>([&] { SafetensorsFile f(path); });
}

std::string error_of_header(ScratchFolder const& folder, std::string const& header, std::size_t data_bytes) {
    put_text(folder / "x", with_header(header, std::string(data_bytes, 'd')));
    auto message = error_of(folder / "x");
    if (!message.empty()) CHECK(contains(message, (folder / "x").string()));
    CHECK_FALSE(contains(message, "\n"));
    return message;
}

}  // namespace

TEST_CASE("a safetensors file gives back what was written") {
    ScratchFolder folder;
    Sample s;
    auto written = write_safetensors(folder / "a.safetensors", s.list, {{"step", "20"}});
    CHECK(written.bytes == static_cast<std::int64_t>(std::filesystem::file_size(folder / "a.safetensors")));
    SafetensorsFile opened(folder / "a.safetensors");
    SafetensorsFile file = std::move(opened);
    CHECK(file.metadata() == std::map<std::string, std::string>{{"step", "20"}});
    REQUIRE(file.entries().size() == 5);
    for (auto const& a : s.list) {
        auto const& e = file.at(a.name);
        CHECK(e.meta == a.meta);
        REQUIRE(e.bytes.size() == a.bytes.size());
        CHECK((a.bytes.empty() || std::memcmp(e.bytes.data(), a.bytes.data(), a.bytes.size()) == 0));
        CHECK(reinterpret_cast<std::uintptr_t>(e.bytes.data()) * 8 %
                  static_cast<unsigned>(row_of(e.meta.dtype).bits) ==
              0);
    }
    CHECK(file.find("other") == nullptr);
    CHECK(contains(message_of<Error>([&] { file.at("other"); }), "has no tensor \"other\""));
}

TEST_CASE("equal arrays give equal files") {
    ScratchFolder folder;
    Sample s;
    auto a = write_safetensors(folder / "a", s.list), b = write_safetensors(folder / "b", s.list);
    CHECK(get_text(folder / "a") == get_text(folder / "b"));
    CHECK(a.xxh64 == b.xxh64);
    s.weight.values<float>()[3] = 9;
    auto c = write_safetensors(folder / "c", s.list);
    CHECK(get_text(folder / "a") != get_text(folder / "c"));
    if (a.xxh64) CHECK(a.xxh64 != c.xxh64);
}

TEST_CASE("copy_to wants the same tensors on both sides") {
    ScratchFolder folder;
    Sample s, t;
    t.weight.values<float>()[0] = 100;
    write_safetensors(folder / "a", s.list);
    SafetensorsFile file(folder / "a");
    SECTION("and copies them") {
        file.copy_to(t.list);
        CHECK(t.weight.values<float>()[0] == 1);
    }
    SECTION("another shape is named, and nothing is copied") {
        Array other{Meta{f64, {3}}};
        t.list[2] = {"wide", other.meta(), other.bytes()};
        CHECK(contains(message_of<Error>([&] { file.copy_to(t.list); }),
                       "tensor \"wide\" is f64[2], but f64[3] is wanted"));
        CHECK(t.weight.values<float>()[0] == 100);
    }
    SECTION("one too many in the file") {
        t.list.pop_back();
        CHECK(contains(message_of<Error>([&] { file.copy_to(t.list); }), "\"none\" has no place"));
    }
    SECTION("one missing in the file") {
        t.list.push_back({"more", s.weight.meta(), s.weight.bytes()});
        CHECK(contains(message_of<Error>([&] { file.copy_to(t.list); }), "has no tensor \"more\""));
    }
}

TEST_CASE("a file cut at any length is refused") {
    ScratchFolder folder;
    Sample s;
    write_safetensors(folder / "whole", s.list);
    auto whole = get_text(folder / "whole");
    for (std::size_t n = 0; n < whole.size(); ++n) {
        put_text(folder / "cut", whole.substr(0, n));
        auto message = error_of(folder / "cut");
        INFO(n << ": " << message);
        REQUIRE(contains(message, "cut"));
        REQUIRE(contains(message, "truncated"));
        REQUIRE_FALSE(contains(message, "\n"));
    }
    put_text(folder / "cut", whole.substr(0, whole.size() - 4));
    CHECK(contains(error_of(folder / "cut"), "tensor \"half\" is truncated: expected 6 bytes, has 2"));
    put_text(folder / "long", whole + "x");
    CHECK(contains(error_of(folder / "long"), "1 bytes after the last tensor"));
}

TEST_CASE("a changed header byte is refused or still describes the same bytes") {
    ScratchFolder folder;
    Sample s;
    s.list[1].place = {{2, 0}, {5, 3}};
    write_safetensors(folder / "whole", s.list);
    auto whole = get_text(folder / "whole");
    std::uint64_t length = 0;
    std::memcpy(&length, whole.data(), 8);
    int refused = 0;
    for (std::size_t i = 0; i < 8 + length; ++i)
        for (int bit = 0; bit < 8; ++bit) {
            auto changed = whole;
            changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
            put_text(folder / "changed", changed);
            std::int64_t bytes = 0;
            auto message = message_of<Error>([&] {
                SafetensorsFile file(folder / "changed");
                for (auto const& e : file.entries()) {
                    REQUIRE(e.meta.bytes() == static_cast<std::int64_t>(e.bytes.size()));
                    bytes += e.meta.bytes();
                    for (int d = 0; d < e.place.logical.rank(); ++d)
                        REQUIRE(e.place.origin[d] + e.meta.shape[d] <= e.place.logical[d]);
                }
                REQUIRE(bytes == static_cast<std::int64_t>(whole.size() - 8 - length));
            });
            REQUIRE_FALSE(contains(message, "\n"));
            refused += !message.empty();
        }
    CHECK(refused > static_cast<int>(length) * 4);
}

TEST_CASE("headers that lie are refused by tensor and reason") {
    ScratchFolder folder;
    auto error = [&](std::string const& header, std::size_t bytes) {
        return error_of_header(folder, header, bytes);
    };
    CHECK(error("{}", 0).empty());
    CHECK(error(R"({"a":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]}})", 4).empty());
    CHECK(contains(error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
                   "f32[2], 8 bytes, but its range holds 4"));
    CHECK(contains(
        error(
            R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}})",
            5),
        "overlaps"));
    CHECK(contains(error(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}})", 5),
                   "belong to no tensor"));
    CHECK(contains(error(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", 4), "not a range"));
    CHECK(contains(error(R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", 4),
                   "not a list of sizes"));
    CHECK(contains(error(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
                   "too large"));
    CHECK(contains(error(R"({"a":{"dtype":"U8","shape":[0,9223372036854775807,9],"data_offsets":[0,0]}})", 0),
                   "too large"));
    CHECK(contains(error(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1),
                   "9 dims"));
    CHECK(contains(error(R"({"a":{"dtype":"Q7","shape":[4],"data_offsets":[0,4]}})", 4), "\"Q7\""));
    CHECK(contains(error(R"({"a":{"shape":[4],"data_offsets":[0,4]}})", 4), "no 'dtype'"));
    CHECK(contains(error(R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4), "no 'shape'"));
    CHECK(contains(error(R"({"a":{"dtype":"U8","shape":[4]}})", 4), "no 'data_offsets'"));
    CHECK(contains(
        error(
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
            2),
        "\"a\" twice"));
    CHECK(contains(error(R"({"__metadata__":{"step":20}})", 0), "not a string"));
    CHECK(contains(error("[1]", 0), "not a JSON object"));
    CHECK(contains(error("{", 0), "not JSON"));
    CHECK(contains(error(std::string(100000, '['), 0), "deeper"));
    CHECK(contains(error(R"({"a\nb":{"dtype":"U8"}})", 0), R"("a\nb")"));
    CHECK(contains(error_of(folder / "missing"), "No such file"));
    CHECK(contains(error_of(folder.path()), "not a file"));
}

TEST_CASE("a block keeps its place, which no other metadata can take") {
    ScratchFolder folder;
    Sample s;
    auto list = s.list;
    write_safetensors(folder / "whole", list, {{"step", "20"}});
    list[1].place = {{0, 0}, {2, 3}};  // the whole, said at length
    write_safetensors(folder / "a", list, {{"step", "20"}});
    CHECK(get_text(folder / "a") == get_text(folder / "whole"));
    list[1].place = {{2, 0}, {5, 3}};
    list[4].place = {{7, 0}, {7, 4}};
    write_safetensors(folder / "a", list, {{"step", "20"}});
    SafetensorsFile file(folder / "a");
    CHECK(file.metadata() == std::map<std::string, std::string>{{"step", "20"}});
    for (auto const& a : list) CHECK(file.at(a.name).place == a.place);
    CHECK(file.at("weight").meta == s.weight.meta());

    list[1].place = {{4, 0}, {5, 3}};
    CHECK(contains(message_of<Error>([&] { write_safetensors(folder / "a", list); }),
                   "'weight' is a block f32[2, 3] at [4, 0], which does not lie in its whole, [5, 3]"));
    list[1].place = {{0}, {5}};
    CHECK(contains(message_of<Error>([&] { write_safetensors(folder / "a", list); }), "does not lie in"));
    list[1].place = {{0, 0}, {}};
    CHECK(contains(message_of<Error>([&] { write_safetensors(folder / "a", list); }), "does not lie in"));
    CHECK(contains(message_of<Error>([&] {
                       write_safetensors(folder / "a", s.list, {{"block:x", "y"}});
                   }),
                   "'block:x' would be taken"));
}

TEST_CASE("places that lie are refused by tensor and reason") {
    ScratchFolder folder;
    auto error = [&](std::string const& text, std::string const& name = "a") {
        return error_of_header(folder,
                               R"({"__metadata__":{"block:)" + name + R"(":")" + text +
                                   R"("},"a":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]}})",
                               6);
    };
    CHECK(error("[0, 0] of [2, 3]").empty());
    CHECK(error("[7, 1] of [9, 4]").empty());
    for (auto text :
         {"[8, 1] of [9, 4]", "[7, 2] of [9, 4]", "[0, 0] of [2, 2]", "[0] of [9]", "[0] of [9, 4]",
          "[0, 0, 0] of [2, 3, 1]", "[9223372036854775807, 0] of [9, 4]", "[0, 0] of [0, 3]"})
        CHECK(contains(error(text), "tensor \"a\" is a block u8[2, 3] at"));
    for (auto text :
         {"", " of ", "[0, 0]", "[0, 0] of", "[0, 0] of [9, 4", "[0,0] of [9, 4]", "[0, 0] of [9, 4] ",
          "[0, 00] of [9, 4]", "[0, +0] of [9, 4]", "[-1, 0] of [9, 4]", "[0, 0, ] of [9, 4]", "[] of []",
          "[0, 0] of [9, 99999999999999999999]", "[0, 0] of [9, 4] of [9, 4]", "[0, x] of [9, 4]",
          "[0, 0, 0, 0, 0, 0, 0, 0, 0] of [9, 4]", "[0, 0]\\n of [9, 4]"})
        CHECK(contains(error(text), "tensor \"a\" has the placement \""));
    for (auto text :
         {"[0, 0] of [9223372036854775807, 9223372036854775807]", "[0, 0] of [4294967296, 4294967296]"})
        CHECK(contains(error(text), "too large"));
    CHECK(contains(error("[0, 0] of [9, 4]", "b"), "places tensor \"b\", which is not there"));
    CHECK(contains(error("[0, 0] of [9, 4]", ""), "places tensor \"\", which is not there"));
}

TEST_CASE("writing refuses arrays that do not fit, repeated names, and unwritable paths") {
    ScratchFolder folder;
    Sample s;
    auto list = s.list;
    list[1].bytes = list[1].bytes.first(20);
    CHECK(contains(message_of<Error>([&] { write_safetensors(folder / "a", list); }),
                   "f32[2, 3], 24 bytes, but 20"));
    list = s.list;
    list[0].name = "wide";
    CHECK(contains(message_of<Error>([&] { write_safetensors(folder / "a", list); }),
                   "two arrays are called 'wide'"));
    CHECK(
        contains(message_of<Error>([&] { write_safetensors(folder / "no" / "a", s.list); }), "No such file"));
    CHECK(contains(message_of<Error>([&] { write_safetensors("/dev/full", s.list); }),
                   "No space left on device"));
    list[0].name = "\xff";
    CHECK(contains(message_of<Error>([&] { write_safetensors(folder / "a", list); }), "UTF-8"));
}

#endif
