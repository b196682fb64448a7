#pragma once

#include "plait/parallel/schedule_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace plait {

PLAIT_INLINE std::string schedule_text(Schedule const& s, Timeline const& t, double column_seconds) {
    if (column_seconds <= 0) {
        column_seconds = std::numeric_limits<double>::infinity();
        for (auto const& row : t.pieces)
            for (auto const& p : row)
                if (p.end > p.start) column_seconds = std::min(column_seconds, p.end - p.start);
    }
    constexpr double most = 10'000;  // columns
    auto const width = static_cast<std::size_t>(std::min(std::round(t.makespan / column_seconds), most));
    auto digits = [](int largest) { return fmt::format("{}", largest).size(); };
    auto const stage_lines = s.stages > s.ranks ? digits(s.stages - 1) : 0;
    auto const lines = 1 + stage_lines + digits(s.micro_batches - 1);
    std::string text;
    for (std::size_t rank = 0; rank < s.slots.size(); ++rank) {
        std::vector<std::string> drawn(lines, std::string(width, ' '));
        drawn[0].assign(width, '.');
        for (std::size_t i = 0; i < s.slots[rank].size(); ++i) {
            auto const& slot = s.slots[rank][i];
            auto const numbers = (stage_lines ? fmt::format("{:0{}}", slot.stage, stage_lines) : "") +
                                 fmt::format("{:0{}}", slot.micro, lines - 1 - stage_lines);
            auto column = [&](double seconds) {
                return static_cast<std::size_t>(std::clamp(std::round(seconds / column_seconds), 0.0, most));
            };
            auto const last = std::min(column(t.pieces[rank][i].end), width);
            for (auto at = column(t.pieces[rank][i].start); at < last; ++at) {
                drawn[0][at] = letter_of(slot.work);
                for (std::size_t k = 0; k < numbers.size(); ++k) drawn[1 + k][at] = numbers[k];
            }
        }
        auto label = fmt::format("rank {}", rank);
        for (std::size_t k = 0; k < lines; ++k) {
            auto const name = k == 0                  ? label
                              : k == 1 && stage_lines ? "stage"
                              : k == 1 + stage_lines  ? "micro"
                                                      : "";
            auto line = fmt::format("{:<8}{}", name, drawn[k]);
            line.erase(line.find_last_not_of(' ') + 1);
            text += line + "\n";
        }
    }
    return text;
}

}  // namespace plait
