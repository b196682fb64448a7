#pragma once

#include "plait/parallel/schedule_csv.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

namespace plait {
namespace detail {

/// The piece that a cell names, with nothing before or after it.
inline std::optional<Slot> parse_slot(std::string_view cell) {
    Slot slot;
    auto const end = cell.data() + cell.size();
    // from_chars takes a minus.
    auto number = [&](char const* at, int& value) {
        if (at == end || *at < '0' || *at > '9') return static_cast<char const*>(nullptr);
        auto [rest, error] = std::from_chars(at, end, value);
        return error == std::errc{} ? rest : nullptr;
    };
    auto const letter = number(cell.data(), slot.stage);
    if (!letter || letter == end) return {};
    auto const work = std::string_view("FBW").find(*letter);
    if (work == std::string_view::npos || number(letter + 1, slot.micro) != end) return {};
    slot.work = static_cast<Work>(work);
    return slot;
}

inline std::string_view without_blanks(std::string_view text) {
    auto const first = text.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// The parts of a text between separators; the last one ends with the text.
template <class F>
void for_each_part(std::string_view text, char separator, F&& f) {
    for (int i = 0;; ++i) {
        auto const end = text.find(separator);
        f(i, text.substr(0, end));
        if (end == std::string_view::npos) return;
        text.remove_prefix(end + 1);
    }
}

}  // namespace detail

PLAIT_INLINE Schedule parse_schedule_csv(std::string_view text, std::string const& file) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    while (!text.empty() && std::string_view(" \t\r\n").find(text.back()) != std::string_view::npos)
        text.remove_suffix(1);
    check<UsageError>(!text.empty(), "{}: no schedule in it: write a row for each rank, with cells like 0F3",
                      file);
    Schedule s;
    s.name = "csv:" + file;
    struct Place {
        int row = 0, cell = 0;
    };
    std::map<int, Place> stages, micros;  // where each stands first
    detail::for_each_part(text, '\n', [&](int row, std::string_view line) {
        std::vector<Slot> slots;
        detail::for_each_part(line, ',', [&](int column, std::string_view cell) {
            cell = detail::without_blanks(cell);
            if (cell.empty()) return;
            auto const slot = detail::parse_slot(cell);
            check<UsageError>(slot.has_value(),
                              "{}: row {}, cell {}: \"{}\" is no piece: write stage, F, B or W, and "
                              "micro-batch, like 0F3",
                              file, row + 1, column + 1, cell.substr(0, 40));
            auto const at = stages.emplace(slot->stage, Place{row, column}).first->second;
            check<UsageError>(at.row == row,
                              "{}: row {}, cell {}: {} is of stage {}, which row {} has (cell {}): keep a "
                              "stage on one rank",
                              file, row + 1, column + 1, cell, slot->stage, at.row + 1, at.cell + 1);
            micros.emplace(slot->micro, Place{row, column});
            slots.push_back(*slot);
        });
        check<UsageError>(!slots.empty(),
                          "{}: row {}: no piece in it: each rank has a stage at least; take the row out",
                          file, row + 1);
        s.slots.push_back(std::move(slots));
    });
    auto count = [&](std::map<int, Place> const& seen, std::string_view what) {
        int next = 0;
        for (auto const& [number, at] : seen) {
            check<UsageError>(number == next,
                              "{}: row {}, cell {}: {} {}, but there is no {} {}: count from 0 without gaps",
                              file, at.row + 1, at.cell + 1, what, number, what, next);
            ++next;
        }
        return next;
    };
    s.ranks = static_cast<int>(s.slots.size());
    s.stages = count(stages, "stage");
    s.micro_batches = count(micros, "micro-batch");
    for (auto const& [stage, at] : stages) s.rank_of_stage.push_back(at.row);
    return s;
}

PLAIT_INLINE std::string schedule_csv(Schedule const& schedule) {
    std::string text;
    for (auto const& row : schedule.slots) {
        for (std::size_t i = 0; i < row.size(); ++i) text += (i ? "," : "") + to_string(row[i]);
        text += "\n";
    }
    return text;
}

}  // namespace plait
