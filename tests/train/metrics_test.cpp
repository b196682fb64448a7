#include "plait/train/metrics.hpp"

#include "catch.hpp"
#include "plait/core/check.hpp"
#include "plait/core/random.hpp"
#include "scratch.hpp"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>

using namespace plait;

namespace {

MetricsRow row(std::int64_t step) { return {{"step", step}, {"loss", 1.0f / static_cast<float>(step + 1)}}; }

void write_rows(std::filesystem::path const& path, std::int64_t last_step, std::int64_t first,
                std::int64_t last) {
    MetricsFile file(path, last_step);
    for (auto s = first; s <= last; ++s) file.write(row(s));
}

}  // namespace

TEST_CASE("a row is one line of JSON in the order given") {
    CHECK(json_line(
              {{"step", 3}, {"loss", 0.1f}, {"rate", 3e-4}, {"hash", "ab\"\\\n"}, {"n", std::int64_t{-1}}}) ==
          R"({"step": 3, "loss": 0.1, "rate": 0.0003, "hash": "ab\"\\\u000a", "n": -1})");
    auto nan = std::numeric_limits<float>::quiet_NaN();
    auto infinity = std::numeric_limits<double>::infinity();
    CHECK(json_line({{"a", nan}, {"b", infinity}, {"c", -infinity}}) ==
          R"({"a": null, "b": null, "c": null})");
    CHECK(json_line({}) == "{}");
}

TEST_CASE("numbers read back as the same bits") {
    for (std::uint64_t i = 0; i < 20000; ++i) {
        auto f = std::bit_cast<float>(static_cast<std::uint32_t>(mix(i)));
        auto d = std::bit_cast<double>(mix(~i));
        if (std::isfinite(f)) REQUIRE(std::strtof(json_line({{"x", f}}).c_str() + 6, nullptr) == f);
        if (std::isfinite(d)) REQUIRE(std::strtod(json_line({{"x", d}}).c_str() + 6, nullptr) == d);
    }
}

TEST_CASE("each row is in the file as soon as it is written") {
    ScratchFolder folder;
    MetricsFile file(folder / "m.jsonl");
    file.write(row(0));
    CHECK(get_text(folder / "m.jsonl") == "{\"step\": 0, \"loss\": 1}\n");
    file.write(row(1));
    CHECK(get_text(folder / "m.jsonl") == "{\"step\": 0, \"loss\": 1}\n{\"step\": 1, \"loss\": 0.5}\n");
}

TEST_CASE("a resumed run cuts later rows and torn lines, and ends as one that never stopped") {
    ScratchFolder folder;
    write_rows(folder / "whole", -1, 0, 20);
    auto whole = get_text(folder / "whole");
    for (std::size_t length = 0; length <= whole.size(); ++length) {
        put_text(folder / "m", whole.substr(0, length));
        auto complete = std::count(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length), '\n');
        auto resumed = std::min<std::int64_t>(complete, 11) - 1;
        write_rows(folder / "m", resumed, resumed + 1, 20);
        REQUIRE(get_text(folder / "m") == whole);
    }
    put_text(folder / "m", whole);
    CHECK(MetricsFile(folder / "m", 12).cut_rows() == 8);
    CHECK(MetricsFile(folder / "m", 12).cut_rows() == 0);
    CHECK(MetricsFile(folder / "m").cut_rows() == 13);
    CHECK(get_text(folder / "m").empty());
    CHECK_FALSE(std::filesystem::exists(folder / "m.new"));
}

TEST_CASE("lines that are no rows are cut, rows written by others kept") {
    ScratchFolder folder;
    put_text(folder / "m", "{\"loss\":1,\"step\":4}\nnonsense\n\n{\"step\": \"x\"}\n{\"step\": 5}\n");
    CHECK(MetricsFile(folder / "m", 4).cut_rows() == 4);
    CHECK(get_text(folder / "m") == "{\"loss\":1,\"step\":4}\n");
}

TEST_CASE("a file that cannot be written is named") {
    ScratchFolder folder;
    auto missing = folder / "no/m";
    CHECK(contains(message_of<Error>([&] { MetricsFile m(missing); }), missing.string() + ": No such file"));
    auto full = message_of<Error>([] {
        std::filesystem::path path = "/proc/self/fd/1/x";
        MetricsFile m(path);
    });
    CHECK_FALSE(full.empty());
}
