#pragma once

#include "plait/train/progress.hpp"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <utility>

namespace plait {

PLAIT_INLINE std::string bytes_text(double bytes) {
    constexpr std::string_view units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    std::size_t unit = 0;
    // 1023.95 would be printed as 1024.0.
    while (std::abs(bytes) >= 1023.95 && unit + 1 < std::size(units)) bytes /= 1024, ++unit;
    return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

PLAIT_INLINE std::string count_text(double count) {
    if (!std::isfinite(count)) return "-";
    if (std::abs(count) < 99.95) return fmt::format("{:.1f}", count);
    auto text = fmt::format("{:.0f}", count);
    for (auto at = static_cast<int>(text.size()) - 3; at > (text[0] == '-' ? 1 : 0); at -= 3)
        text.insert(static_cast<std::size_t>(at), ",");
    return text;
}

PLAIT_INLINE std::string duration_text(double seconds) {
    if (!std::isfinite(seconds) || seconds > 1e10) return "-";
    auto s = static_cast<std::int64_t>(std::llround(std::max(seconds, 0.0)));
    auto days = s / 86400, hours = s / 3600 % 24, minutes = s / 60 % 60;
    if (days > 0) return fmt::format("{}d {:02}:{:02}:{:02}", days, hours, minutes, s % 60);
    if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, s % 60);
    return fmt::format("{:02}:{:02}", minutes, s % 60);
}

PLAIT_INLINE std::string progress_line(ProgressRow const& row, std::int64_t steps, double eta_seconds) {
    auto line = fmt::format("step {}/{}  loss {:.3f}  grad {:.2f}  {} tok/s", row.step, steps, row.loss,
                            row.grad_norm, count_text(row.tokens_per_second));
    if (row.mfu) line += fmt::format("  mfu {:.1f}%", 100 * *row.mfu);
    return line + fmt::format("  {}  eta {}", bytes_text(static_cast<double>(row.memory_bytes)),
                              duration_text(eta_seconds));
}

PLAIT_INLINE Progress::Progress(std::FILE* out, std::int64_t steps, std::optional<bool> terminal)
    : out_(out), steps_(steps) {
    auto const* kind = std::getenv("TERM");
    auto const* plain = std::getenv("NO_COLOR");
    terminal_ = terminal.value_or(::isatty(::fileno(out)) == 1 && kind && std::string_view(kind) != "dumb");
    colour_ = terminal_ && !(plain && *plain);  // https://no-color.org: set and not empty
}

PLAIT_INLINE Progress::~Progress() { erase_bar(); }

PLAIT_INLINE void Progress::step(ProgressRow const& row) {
    // The first step also pays for warming up, so the second one replaces it.
    ++seen_;
    step_seconds_ = seen_ <= 2 ? row.step_seconds : 0.9 * step_seconds_ + 0.1 * row.step_seconds;
    auto line = progress_line(row, steps_, step_seconds_ * static_cast<double>(steps_ - row.step));
    if (seen_ == 1 || row.step % 10 == 0 || row.step >= steps_) note(line);
    if (terminal_ && row.step < steps_) draw_bar(line, row.step);
}

PLAIT_INLINE void Progress::note(std::string_view text) {
    erase_bar();
    fmt::print(out_, "{}\n", text);
    std::fflush(out_);
}

PLAIT_INLINE void Progress::erase_bar() {
    if (!std::exchange(drawn_, false)) return;
    fmt::print(out_, "\r\033[K");
    std::fflush(out_);
}

PLAIT_INLINE void Progress::draw_bar(std::string const& line, std::int64_t step) {
    auto now = std::chrono::steady_clock::now();
    if (drawn_ && now - drawn_at_ < std::chrono::milliseconds(100)) return;
    drawn_at_ = now;
    constexpr int width = 20;
    auto done = static_cast<int>(width * step / std::max<std::int64_t>(steps_, 1));
    auto bar = std::string(static_cast<std::size_t>(done), '#') +
               std::string(static_cast<std::size_t>(width - done), '.');
    // A line that wraps could not be erased.
    winsize size{};
    auto columns =
        ::ioctl(::fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? std::size_t{size.ws_col} : 80;
    auto text = " " + line;
    text.resize(std::min(text.size(), columns - std::min<std::size_t>(columns, width + 3)));
    fmt::print(out_, "\r\033[K{}[{}]{}{}", colour_ ? "\033[32m" : "", bar, colour_ ? "\033[0m" : "", text);
    std::fflush(out_);
    drawn_ = true;
}

}  // namespace plait
