#pragma once

#include "plait/core/check.hpp"
#include "plait/core/inline.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plait {

/// The three pieces of a stage's work on a micro-batch: forward, the part of backward that its input's
/// gradient needs, and the rest of backward, which makes weight gradients. Qi et al., "Zero bubble pipeline
/// parallelism", 2023.
enum class Work : std::uint8_t { F, B, W };
inline constexpr Work all_work[] = {Work::F, Work::B, Work::W};
constexpr char letter_of(Work work) { return "FBW"[static_cast<std::size_t>(work)]; }

/// One piece: what is done for micro-batch `micro` by `stage`, both counted from 0.
struct Slot {
    Work work = Work::F;
    int stage = 0, micro = 0;

    bool operator==(Slot const&) const = default;
};
/// "0F3": the forward of stage 0 on micro-batch 3.
std::string to_string(Slot const& slot);

/// Who does what in which order: a table, one row for each rank of the pipeline axis. It says nothing of
/// time; a piece runs when the one before it in its row is done and what it reads is there.
struct Schedule {
    std::string name;
    int ranks = 1;
    int stages = 1;  // virtual ones, of all ranks together
    int micro_batches = 1;
    std::vector<int> rank_of_stage;
    std::vector<std::vector<Slot>> slots;  // slots[rank], in order
    /// Backward is one piece to others: what B sends leaves when the W after it is done, as in schedules
    /// older than the split.
    bool whole_backward = false;

    bool operator==(Schedule const&) const = default;
};

namespace detail {

/// f(rank, place in its row, slot) of all slots, rank by rank.
template <class F>
void for_each_slot(Schedule const& s, F&& f) {
    for (int rank = 0; rank < s.ranks; ++rank) {
        auto const& row = s.slots[static_cast<std::size_t>(rank)];
        for (std::size_t i = 0; i < row.size(); ++i) f(rank, i, row[i]);
    }
}

}  // namespace detail

/// A row of the table of schedules.
struct ScheduleRow {
    std::string_view name;
    /// Puts the slots into a schedule whose sizes stand and whose stage s lies on rank s % ranks; it may move
    /// stages.
    void (*fill)(Schedule& schedule);
    int virtual_stages;   // of every rank; 0: as many as are asked for, at least 2
    bool whole_rounds;    // takes only multiples of `ranks` micro-batches
    bool whole_backward;  // see Schedule
};

/// GPipe (Huang et al., 2019), 1F1B (Narayanan et al., "PipeDream", 2019, with the flush of 2021),
/// interleaved (Narayanan et al., "Efficient large-scale language model training", 2021), ZB-H1 and ZB-V (Qi
/// et al., 2023 and 2024). docs/schedules.md shows them.
std::span<ScheduleRow const> schedule_table();
/// The names of the rows, and "csv:FILE".
std::vector<std::string> schedule_names();

/// How the text of a file is got: `read_file` of io/file.hpp.
using ReadText = std::function<std::string(std::string const& path)>;

/// The schedule `name` of the table, or of a file for "csv:FILE" (see schedule_csv.hpp), whose sizes must be
/// those asked for. `virtual_stages` are those of a rank; 1 also stands for the number of a schedule that
/// always has more, or of a file. Throws UsageError, with the fix, for a name that is not known and for
/// numbers that the schedule cannot use.
Schedule make_schedule(std::string const& name, int ranks, int virtual_stages, int micro_batches,
                       ReadText const& read = {});

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/schedule-inl.hpp"
#endif
