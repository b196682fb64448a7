#pragma once

#include "plait/core/nearest.hpp"
#include "plait/parallel/schedule.hpp"
#include "plait/parallel/schedule_csv.hpp"

#include <algorithm>

namespace plait {
namespace detail {

/// The row of one rank while it is written; counts what stands there already, for each of its stages.
class SlotWriter {
  public:
    SlotWriter(Schedule& s, int rank)
        : slots_(s.slots[static_cast<std::size_t>(rank)]),
          next_(static_cast<std::size_t>(s.stages) * 3),
          micro_batches_(s.micro_batches) {}

    /// The stage's next micro-batch, where there is one left.
    void add(Work work, int stage) {
        if (int const micro = next(work, stage)++; micro < micro_batches_)
            slots_.push_back({work, stage, micro});
    }
    /// The next micro-batch's two parts of backward.
    void add_backward(int stage) {
        add(Work::B, stage);
        add(Work::W, stage);
    }
    bool left(Work work, int stage) { return next(work, stage) < micro_batches_; }
    int done(Work work, int stage) { return next(work, stage); }

  private:
    int& next(Work work, int stage) {
        return next_[static_cast<std::size_t>(stage) * 3 + static_cast<std::size_t>(work)];
    }

    std::vector<Slot>& slots_;
    std::vector<int> next_;
    int micro_batches_;
};

inline void fill_gpipe(Schedule& s) {
    for (int r = 0; r < s.ranks; ++r) {
        SlotWriter row(s, r);
        while (row.left(Work::F, r)) row.add(Work::F, r);
        while (row.left(Work::B, r)) row.add_backward(r);
    }
}

inline void fill_1f1b(Schedule& s) {
    for (int r = 0; r < s.ranks; ++r) {
        SlotWriter row(s, r);
        for (int i = r + 1; i < s.ranks; ++i) row.add(Work::F, r);
        while (row.left(Work::B, r)) {
            row.add(Work::F, r);
            row.add_backward(r);
        }
    }
}

/// Megatron's order: rounds of `ranks` micro-batches through each of the rank's stages in turn, forwards
/// down and backwards up.
inline void fill_interleaved(Schedule& s) {
    int const virtual_stages = s.stages / s.ranks, pieces = virtual_stages * s.micro_batches;
    for (int r = 0; r < s.ranks; ++r) {
        SlotWriter row(s, r);
        auto stage = [&](int k) { return k % s.stages / s.ranks * s.ranks + r; };
        auto stage_back = [&](int k) { return (virtual_stages - 1 - k % s.stages / s.ranks) * s.ranks + r; };
        int const ahead = std::min(2 * (s.ranks - 1 - r) + (virtual_stages - 1) * s.ranks, pieces);
        for (int k = 0; k < ahead; ++k) row.add(Work::F, stage(k));
        for (int k = 0; k < pieces; ++k) {
            if (ahead + k < pieces) row.add(Work::F, stage(ahead + k));
            row.add_backward(stage_back(k));
        }
    }
}

/// 1F1B whose rank r is r micro-batches behind with its weight gradients: their stashes take the room that
/// 1F1B leaves on later ranks, and they fill the end, where 1F1B waits.
inline void fill_zb_h1(Schedule& s) {
    for (int r = 0; r < s.ranks; ++r) {
        SlotWriter row(s, r);
        for (int i = r + 1; i < s.ranks; ++i) row.add(Work::F, r);
        while (row.left(Work::B, r)) {
            row.add(Work::F, r);
            row.add(Work::B, r);
            if (row.done(Work::B, r) > r) row.add(Work::W, r);
        }
        while (row.left(Work::W, r)) row.add(Work::W, r);
    }
}

/// The stages go down the ranks and up again. The order is made for 2 * ranks - 1 micro-batches or more; of
/// fewer it is what is left when the others are struck out.
inline void fill_zb_v(Schedule& s) {
    int const micro_batches = std::max(s.micro_batches, 2 * s.ranks - 1);
    for (int r = 0; r < s.ranks; ++r) {
        int const down = r, up = s.stages - 1 - r;
        s.rank_of_stage[static_cast<std::size_t>(up)] = r;
        SlotWriter row(s, r);
        for (int i = 0; i < 2 * (s.ranks - r) - 1; ++i) row.add(Work::F, down);
        for (int i = 0; i < r; ++i) {
            row.add(Work::F, up);
            row.add(Work::F, down);
        }
        for (int i = r; i < s.ranks; ++i) {
            row.add(Work::F, up);
            row.add_backward(up);
        }
        while (row.done(Work::F, up) < row.done(Work::F, down) || row.done(Work::F, down) < micro_batches) {
            if (row.done(Work::F, down) < micro_batches) row.add(Work::F, down);
            row.add_backward(down);
            row.add(Work::F, up);
            row.add_backward(up);
        }
        for (int i = 0; i < r; ++i) {
            row.add(Work::B, down);
            row.add(Work::B, up);
        }
        for (int i = r; i < s.ranks; ++i) row.add_backward(down);
        while (row.left(Work::W, up)) row.add(Work::W, up);
        while (row.left(Work::W, down)) row.add(Work::W, down);
    }
}

/// The table of a file, of the sizes that are asked for.
inline Schedule schedule_of_file(std::string const& name, int ranks, int virtual_stages, int micro_batches,
                                 ReadText const& read) {
    auto const path = name.substr(std::string_view("csv:").size());
    check<UsageError>(!path.empty(), "schedule csv: write the path of a table after it, like csv:table.csv");
    check<UsageError>(bool(read), "schedule {}: give make_schedule a way to read files", name);
    std::string text;
    try {
        text = read(path);
    } catch (Error const& e) {
        throw UsageError(fmt::format("schedule {}: {}", name, e.what()));
    }
    auto s = parse_schedule_csv(text, path);
    s.name = name;
    check<UsageError>(s.ranks == ranks,
                      "schedule {}: its {} rows are as many ranks, but the pipeline has {}: "
                      "make them equal",
                      name, s.ranks, ranks);
    check<UsageError>(
        virtual_stages == 1 || s.stages == ranks * virtual_stages,
        "schedule {}: it has {} stages, not {} on each of {} ranks: ask for {}", name, s.stages,
        virtual_stages, ranks,
        s.stages % ranks ? "1, which takes those of the file" : fmt::format("{}", s.stages / ranks));
    check<UsageError>(s.micro_batches == micro_batches,
                      "schedule {}: it is for {} micro-batches a rank, not {}: make them equal", name,
                      s.micro_batches, micro_batches);
    return s;
}

}  // namespace detail

PLAIT_INLINE std::string to_string(Slot const& slot) {
    return fmt::format("{}{}{}", slot.stage, letter_of(slot.work), slot.micro);
}

PLAIT_INLINE std::span<ScheduleRow const> schedule_table() {
    static constexpr ScheduleRow rows[] = {
        // name, order, virtual stages, whole rounds, whole backward
        {"gpipe", detail::fill_gpipe, 1, false, true},
        {"1f1b", detail::fill_1f1b, 1, false, true},
        {"interleaved", detail::fill_interleaved, 0, true, true},
        {"zb-h1", detail::fill_zb_h1, 1, false, false},
        {"zb-v", detail::fill_zb_v, 2, false, false},
    };
    return rows;
}

PLAIT_INLINE std::vector<std::string> schedule_names() {
    std::vector<std::string> names;
    for (auto const& row : schedule_table()) names.emplace_back(row.name);
    names.push_back("csv:FILE");
    return names;
}

PLAIT_INLINE Schedule make_schedule(std::string const& name, int ranks, int virtual_stages, int micro_batches,
                                    ReadText const& read) {
    check<UsageError>(ranks >= 1, "schedule {}: {} ranks: use 1 or more", name, ranks);
    check<UsageError>(virtual_stages >= 1, "schedule {}: {} virtual stages on a rank: use 1 or more", name,
                      virtual_stages);
    check<UsageError>(micro_batches >= 1, "schedule {}: {} micro-batches: use 1 or more", name,
                      micro_batches);
    if (name.starts_with("csv:"))
        return detail::schedule_of_file(name, ranks, virtual_stages, micro_batches, read);
    auto const rows = schedule_table();
    auto const row = std::find_if(rows.begin(), rows.end(), [&](auto const& r) { return r.name == name; });
    if (row == rows.end()) {
        std::string list;
        for (auto const& known : schedule_names()) list += (list.empty() ? "" : ", ") + known;
        fail<UsageError>("there is no schedule {}: use {}; the nearest is {}", name, list,
                         nearest_name(name, schedule_names()));
    }
    int const fixed = row->virtual_stages;
    check<UsageError>(fixed != 0 || virtual_stages >= 2,
                      "schedule {}: 1 virtual stage on a rank: use 2 or more, or 1f1b", name);
    check<UsageError>(
        fixed == 0 || virtual_stages == 1 || virtual_stages == fixed,
        "schedule {}: {} virtual stages on a rank: it always has {}; interleaved takes any number", name,
        virtual_stages, fixed);
    if (fixed > 1) virtual_stages = fixed;
    auto const above = (std::int64_t{micro_batches} / ranks + 1) * ranks;
    check<UsageError>(!row->whole_rounds || micro_batches % ranks == 0,
                      "schedule {}: {} micro-batches on {} ranks: use a multiple of {}, like {}, or 1f1b",
                      name, micro_batches, ranks, ranks, above);
    constexpr std::int64_t most = 1 << 24;
    check<UsageError>(
        std::int64_t{ranks} <= most / virtual_stages &&
            std::int64_t{ranks} * virtual_stages <= most / micro_batches,
        "schedule {}: {} ranks x {} virtual stages x {} micro-batches are more than {}: use fewer "
        "micro-batches",
        name, ranks, virtual_stages, micro_batches, most);
    Schedule s{name, ranks, ranks * virtual_stages, micro_batches, {}, {}, row->whole_backward};
    for (int stage = 0; stage < s.stages; ++stage) s.rank_of_stage.push_back(stage % ranks);
    s.slots.resize(static_cast<std::size_t>(ranks));
    row->fill(s);
    return s;
}

}  // namespace plait
