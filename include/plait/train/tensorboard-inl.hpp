#pragma once

#include "plait/train/tensorboard.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <chrono>
#include <cmath>
#include <type_traits>

namespace plait {
namespace detail {

/// The bytes of a number, lowest first.
template <class T>
std::string little_endian(T value) {
    std::string bytes;
    for (std::size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
    return bytes;
}

inline std::string varint(std::uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
    return bytes + static_cast<char>(value);
}

// Fields of protobuf messages by wire type: varint 0, 64 bits 1, bytes 2, 32 bits 5.
inline std::string varint_field(int number, std::int64_t value) {
    return varint(static_cast<std::uint64_t>(number) << 3) + varint(static_cast<std::uint64_t>(value));
}
inline std::string double_field(int number, double value) {
    return varint(static_cast<std::uint64_t>(number) << 3 | 1) +
           little_endian(std::bit_cast<std::uint64_t>(value));
}
inline std::string bytes_field(int number, std::string_view bytes) {
    return varint(static_cast<std::uint64_t>(number) << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
inline std::string float_field(int number, float value) {
    return varint(static_cast<std::uint64_t>(number) << 3 | 5) +
           little_endian(std::bit_cast<std::uint32_t>(value));
}

// Fields of tensorflow.Event.
enum EventField : std::uint8_t { wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7 };

inline std::string event_at(std::int64_t step_number) {
    auto now = std::chrono::system_clock::now().time_since_epoch();
    return double_field(wall_time, std::chrono::duration<double>(now).count()) +
           varint_field(step, step_number);
}

inline std::uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

/// TensorBoard reads the files of a folder by name, and the later one wins.
inline std::filesystem::path event_path(std::filesystem::path const& folder) {
    constexpr std::string_view begin = "events.out.tfevents.";
    auto seconds =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    std::error_code ignored;
    for (auto const& entry : std::filesystem::directory_iterator(folder, ignored)) {
        auto const name = entry.path().filename().string();
        std::int64_t other = 0;
        if (!name.starts_with(begin)) continue;
        std::from_chars(name.data() + begin.size(), name.data() + name.size(), other);
        if (other < 9'999'999'999) seconds = std::max(seconds, other + 1);
    }
    std::array<char, 256> host{};
    if (::gethostname(host.data(), host.size() - 1) != 0 || host[0] == 0) host = {"localhost"};
    return folder / fmt::format("{}{:010}.{}.{}", begin, seconds, host.data(), ::getpid());
}

inline double number_of(MetricValue const& value) {
    return std::visit(
        [](auto const& v) -> double {
            if constexpr (std::is_arithmetic_v<std::decay_t<decltype(v)>>) return static_cast<double>(v);
            else return std::nan("");
        },
        value);
}

}  // namespace detail

PLAIT_INLINE std::uint32_t crc32c(std::string_view bytes) {
    static constexpr auto table = [] {
        std::array<std::uint32_t, 256> t{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            t[i] = i;
            for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0x82f63b78u : 0u);
        }
        return t;
    }();
    std::uint32_t crc = ~0u;
    for (char c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xff];
    return ~crc;
}

PLAIT_INLINE TensorBoardScalars tensorboard_scalars(MetricsRow const& row, int ranks) {
    struct Tag {
        std::string_view name, tag;
        double factor;
    };
    Tag const tags[] = {{"loss", "loss_metrics/global_avg_loss", 1},
                        {"validation_loss", "validation_metrics/loss", 1},
                        {"validation_bits_per_byte", "validation_metrics/bits_per_byte", 1},
                        {"grad_norm", "grad_norm", 1},
                        {"learning_rate", "lr", 1},
                        {"tokens", "n_tokens_seen", 1},
                        {"tokens_per_second", "throughput(tps)", 1.0 / ranks},
                        {"step_seconds", "time_metrics/end_to_end(s)", 1},
                        {"mfu", "mfu(%)", 100},
                        {"memory_peak_bytes", "memory/max_active(GiB)", 1.0 / (1 << 30)},
                        {"wire_bytes", "comm_metrics/wire(MiB)", 1.0 / (1 << 20)}};
    TensorBoardScalars scalars;
    for (auto const& [name, value] : row)
        for (auto const& t : tags)
            if (t.name == name)
                if (auto x = detail::number_of(value) * t.factor; std::isfinite(x))
                    scalars.emplace_back(t.tag, x);
    return scalars;
}

PLAIT_INLINE TensorBoardFile::TensorBoardFile(std::filesystem::path const& folder, std::int64_t first_step)
    : path_(detail::event_path(folder)), file_(path_) {
    using namespace detail;
    write_event(event_at(0) + bytes_field(file_version, "brain.Event:2"));
    constexpr int start = 1;  // SessionLog.START: what came before from this step on is purged
    write_event(event_at(first_step) + bytes_field(session_log, varint_field(1, start)));
}

PLAIT_INLINE void TensorBoardFile::write(std::int64_t step, TensorBoardScalars const& scalars) {
    using namespace detail;
    std::string values;
    for (auto const& [tag, value] : scalars)
        values += bytes_field(1, bytes_field(1, tag) + float_field(2, static_cast<float>(value)));
    if (!values.empty()) write_event(event_at(step) + bytes_field(summary, values));
}

PLAIT_INLINE void TensorBoardFile::write(MetricsRow const& row, int ranks) {
    check(!row.empty() && row[0].first == "step", "a row of metrics begins with its step");
    write(static_cast<std::int64_t>(detail::number_of(row[0].second)), tensorboard_scalars(row, ranks));
}

PLAIT_INLINE void TensorBoardFile::write_event(std::string const& event) {
    using detail::little_endian, detail::masked_crc;
    auto const length = little_endian(std::uint64_t{event.size()});
    file_.write(length + little_endian(masked_crc(length)) + event + little_endian(masked_crc(event)));
}

}  // namespace plait
