#include "plait/train/tensorboard.hpp"
#include "catch.hpp"
#include "scratch.hpp"

#include <bit>
#include <limits>
#include <map>

using namespace plait;

namespace {

template <class T>
T number_at(std::string_view bytes, std::size_t at) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
        value |= static_cast<T>(static_cast<unsigned char>(bytes.at(at + i))) << (8 * i);
    return value;
}

std::uint32_t unmasked(std::uint32_t masked) { return std::rotl(masked - 0xa282ead8u, 15); }

/// The records of an event file; fails on a frame that is cut or has a wrong checksum.
std::vector<std::string> records_of(std::string const& file) {
    std::vector<std::string> records;
    for (std::string_view rest = file; !rest.empty();) {
        auto const length = number_at<std::uint64_t>(rest, 0);
        REQUIRE(rest.size() >= 16 + length);
        CHECK(unmasked(number_at<std::uint32_t>(rest, 8)) == crc32c(rest.substr(0, 8)));
        records.emplace_back(rest.substr(12, length));
        CHECK(unmasked(number_at<std::uint32_t>(rest, 12 + length)) == crc32c(records.back()));
        rest.remove_prefix(16 + length);
    }
    return records;
}

/// Fields of a protobuf message: numbers as bytes, lowest first.
std::multimap<int, std::string> fields_of(std::string_view message) {
    std::multimap<int, std::string> fields;
    auto varint = [&] {
        std::uint64_t value = 0;
        for (int shift = 0;; shift += 7) {
            auto byte = static_cast<unsigned char>(message.at(0));
            message.remove_prefix(1);
            value |= std::uint64_t{byte & 0x7fu} << shift;
            if (byte < 0x80) return value;
        }
    };
    while (!message.empty()) {
        auto const key = varint();
        auto const type = key & 7;
        if (type == 0) {
            fields.emplace(static_cast<int>(key >> 3), std::to_string(varint()));
            continue;
        }
        auto const length = type == 1 ? 8 : type == 5 ? 4 : varint();
        REQUIRE(message.size() >= length);
        fields.emplace(static_cast<int>(key >> 3), std::string(message.substr(0, length)));
        message.remove_prefix(length);
    }
    return fields;
}

std::string field(std::string_view message, int number) {
    auto const fields = fields_of(message);
    REQUIRE(fields.count(number) == 1);
    return fields.find(number)->second;
}

}  // namespace

TEST_CASE("crc32c has the values of RFC 3720") {
    CHECK(crc32c("") == 0);
    CHECK(crc32c("123456789") == 0xe3069283u);
    CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);
    CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
}

TEST_CASE("rows get torchtitan's names") {
    MetricsRow row{{"step", std::int64_t{3}},
                   {"loss", 2.5f},
                   {"grad_norm", 0.5f},
                   {"learning_rate", 1e-3f},
                   {"tokens", std::int64_t{300}},
                   {"tokens_per_second", 1000.0},
                   {"step_seconds", 0.25},
                   {"mfu", std::numeric_limits<double>::quiet_NaN()},
                   {"memory_peak_bytes", std::int64_t{1} << 31},
                   {"wire_bytes", std::int64_t{1} << 19},
                   {"params_hash", std::string("00")}};
    TensorBoardScalars const wanted{{"loss_metrics/global_avg_loss", 2.5},
                                    {"grad_norm", 0.5},
                                    {"lr", static_cast<double>(1e-3f)},
                                    {"n_tokens_seen", 300},
                                    {"throughput(tps)", 250},
                                    {"time_metrics/end_to_end(s)", 0.25},
                                    {"memory/max_active(GiB)", 2},
                                    {"comm_metrics/wire(MiB)", 0.5}};
    CHECK(tensorboard_scalars(row, 4) == wanted);
    CHECK(tensorboard_scalars({{"step", std::int64_t{0}}, {"mfu", 0.4}, {"validation_loss", 3.0}}) ==
          TensorBoardScalars{{"mfu(%)", 40}, {"validation_metrics/loss", 3}});
}

TEST_CASE("an event file is frames of events, whole after every row") {
    ScratchFolder folder;
    TensorBoardFile file(folder.path(), 8);
    REQUIRE(file.path().filename().string().starts_with("events.out.tfevents."));
    auto records = records_of(get_text(file.path()));
    REQUIRE(records.size() == 2);
    CHECK(field(records[0], 3) == "brain.Event:2");
    CHECK(field(records[1], 2) == "8");
    CHECK(field(field(records[1], 7), 1) == "1");

    file.write(MetricsRow{{"step", std::int64_t{300}}, {"loss", 2.5f}, {"grad_norm", 0.5f}});
    records = records_of(get_text(file.path()));
    REQUIRE(records.size() == 3);
    CHECK(field(records[2], 2) == "300");
    auto const wall = std::bit_cast<double>(number_at<std::uint64_t>(field(records[2], 1), 0));
    CHECK((wall > 1.7e9 && wall < 1e10));
    auto const values = fields_of(field(records[2], 5));
    REQUIRE(values.count(1) == 2);
    auto const& first = values.find(1)->second;
    CHECK(field(first, 1) == "loss_metrics/global_avg_loss");
    CHECK(std::bit_cast<float>(number_at<std::uint32_t>(field(first, 2), 0)) == 2.5f);

    file.write(MetricsRow{{"step", std::int64_t{301}}, {"loss", std::numeric_limits<float>::infinity()}});
    CHECK(records_of(get_text(file.path())).size() == 3);
    CHECK_THROWS_WITH(file.write(MetricsRow{{"loss", 1.0f}}), ContainsSubstring("begins with its step"));
}

TEST_CASE("a later event file sorts after those that are there") {
    ScratchFolder folder;
    std::string last;
    for (int i = 0; i < 5; ++i) {
        TensorBoardFile file(folder.path(), 0);
        auto name = file.path().filename().string();
        CHECK(name > last);
        last = name;
    }
    CHECK_THROWS_WITH(TensorBoardFile(folder / "none", 0), ContainsSubstring("No such file"));
}
