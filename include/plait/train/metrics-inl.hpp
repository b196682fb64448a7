#pragma once

#include "plait/core/check.hpp"
#include "plait/io/file.hpp"
#include "plait/train/metrics.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>
#include <type_traits>

namespace plait {
namespace detail {

/// The value of "step" in a line that json_line could have written.
inline std::optional<std::int64_t> step_of_row(std::string_view line) {
    if (!line.starts_with('{') || !line.ends_with('}')) return {};
    auto at = line.find("\"step\":");
    if (at == std::string_view::npos) return {};
    line.remove_prefix(at + 7);
    while (line.starts_with(' ')) line.remove_prefix(1);
    std::int64_t step = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), step).ec != std::errc{}) return {};
    return step;
}

}  // namespace detail

PLAIT_INLINE std::string json_string(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\', out += c;
        else if (static_cast<unsigned char>(c) < 0x20) out += fmt::format("\\u{:04x}", static_cast<int>(c));
        else out += c;
    }
    return out + "\"";
}

PLAIT_INLINE std::string json_line(MetricsRow const& row) {
    std::string line = "{";
    for (auto const& [name, value] : row) {
        line += (line.size() > 1 ? ", " : "") + json_string(name) + ": ";
        line += std::visit(
            [](auto const& v) -> std::string {
                using T = std::decay_t<decltype(v)>;
                if constexpr (std::is_same_v<T, std::string>) return json_string(v);
                else if constexpr (std::is_floating_point_v<T>)
                    return std::isfinite(v) ? fmt::format("{}", v) : "null";
                else return fmt::format("{}", v);
            },
            value);
    }
    return line + "}";
}

PLAIT_INLINE MetricsFile::MetricsFile(std::filesystem::path path, std::int64_t last_step)
    : path_(std::move(path)) {
    std::error_code error;
    if (std::filesystem::exists(path_, error)) {
        auto const text = read_file(path_);
        std::string kept;
        for (std::string_view rest = text; !rest.empty();) {
            auto end = rest.find('\n');
            auto line = rest.substr(0, end);
            auto step = detail::step_of_row(line);
            // A line without its line break was being written when the process ended.
            if (step && *step <= last_step && end != std::string_view::npos) kept.append(line).append("\n");
            else ++cut_rows_;
            rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
        }
        if (kept != text) write_file_atomically(path_, kept);
    }
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_with_errno("write", path_);
}

PLAIT_INLINE MetricsFile::~MetricsFile() { ::close(descriptor_); }

PLAIT_INLINE void MetricsFile::write(MetricsRow const& row) {
    waiting_ += json_line(row) + "\n";
    write_waiting();
}

PLAIT_INLINE void MetricsFile::write_waiting() {
    while (!waiting_.empty()) {
        auto n = ::write(descriptor_, waiting_.data(), waiting_.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_with_errno("write", path_);
        waiting_.erase(0, static_cast<std::size_t>(n));
    }
}

}  // namespace plait
