#pragma once

#include "plait/parallel/schedule_check.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

namespace plait {
namespace detail {

/// "rank 1, slot 4"
inline std::string place_of_slot(int rank, std::size_t slot) {
    return fmt::format("rank {}, slot {}", rank, slot);
}

inline int rank_of(Schedule const& s, int stage) { return s.rank_of_stage[static_cast<std::size_t>(stage)]; }

/// The costs of a schedule's stages, whole.
inline Costs filled_costs(Schedule const& s, Costs costs) {
    auto fill = [&](auto& values, std::string_view what) {
        if (values.empty()) values.assign(static_cast<std::size_t>(s.stages), 1);
        check<UsageError>(static_cast<int>(values.size()) == s.stages,
                          "schedule {}: {} for {} stages, but it has {}: give one of each", s.name, what,
                          values.size(), s.stages);
        for (auto v : values)
            check<UsageError>(v >= 0 && static_cast<double>(v) < std::numeric_limits<double>::infinity(),
                              "schedule {}: {} of {}: give a number from 0", s.name, what, v);
    };
    fill(costs.forward_seconds, "seconds of F");
    fill(costs.input_seconds, "seconds of B");
    fill(costs.weight_seconds, "seconds of W");
    fill(costs.stash_bytes, "bytes of a stash");
    fill(costs.held_bytes, "bytes from B to W");
    check<UsageError>(costs.edge_seconds >= 0 && std::isfinite(costs.edge_seconds),
                      "schedule {}: an edge of {} seconds: give a number from 0", s.name, costs.edge_seconds);
    return costs;
}

/// Runs the slots of a complete schedule.
class ScheduleRun {
  public:
    ScheduleRun(Schedule const& s, Costs const& costs, Timeline& timeline)
        : s_(s), costs_(costs), timeline_(timeline), next_(s.slots.size(), 0), free_(s.slots.size(), 0) {
        ends_.assign(static_cast<std::size_t>(s.stages) * static_cast<std::size_t>(s.micro_batches) * 3, -1);
        for (auto const& row : s.slots) timeline.pieces.emplace_back(row.size());
    }

    void run() {
        // A rank goes on until it waits; the piece that it waits for wakes it.
        std::vector<int> awake;
        for (int rank = s_.ranks; rank-- > 0;) awake.push_back(rank);
        std::vector<std::vector<int>> waiting(ends_.size());
        while (!awake.empty()) {
            auto const rank = static_cast<std::size_t>(awake.back());
            auto& at = next_[rank];
            if (at == s_.slots[rank].size()) {
                awake.pop_back();
                continue;
            }
            auto const slot = s_.slots[rank][at];
            auto const [ready, missing] = readiness(slot);
            if (missing) {
                waiting[index(*missing)].push_back(awake.back());
                awake.pop_back();
                continue;
            }
            auto& piece = timeline_.pieces[rank][at++];
            piece.start = std::max(free_[rank], ready);
            piece.end = free_[rank] = ends_[index(slot)] = piece.start + seconds(slot);
            auto& woken = waiting[index(slot)];
            awake.insert(awake.end(), woken.begin(), woken.end());
            woken.clear();
        }
        check_ended();
    }

  private:
    std::size_t index(Slot const& slot) const {
        auto const micro_batches = static_cast<std::size_t>(s_.micro_batches);
        return (static_cast<std::size_t>(slot.stage) * micro_batches + static_cast<std::size_t>(slot.micro)) *
                   3 +
               static_cast<std::size_t>(slot.work);
    }
    double seconds(Slot const& slot) const {
        auto const& by_stage = slot.work == Work::F   ? costs_.forward_seconds
                               : slot.work == Work::B ? costs_.input_seconds
                                                      : costs_.weight_seconds;
        return by_stage[static_cast<std::size_t>(slot.stage)];
    }
    /// What a slot reads, besides what comes before it on its rank.
    std::vector<Slot> reads(Slot const& slot) const {
        std::vector<Slot> all;
        if (slot.work == Work::F && slot.stage > 0) all.push_back({Work::F, slot.stage - 1, slot.micro});
        if (slot.work == Work::B) {
            all.push_back({Work::F, slot.stage, slot.micro});
            if (slot.stage + 1 < s_.stages)
                all.push_back({s_.whole_backward ? Work::W : Work::B, slot.stage + 1, slot.micro});
        }
        if (slot.work == Work::W) all.push_back({Work::B, slot.stage, slot.micro});
        return all;
    }
    /// When all that a slot reads has come, or the first piece that has not been done.
    std::pair<double, std::optional<Slot>> readiness(Slot const& slot) const {
        double ready = 0;
        for (auto const& read : reads(slot)) {
            auto const end = ends_[index(read)];
            if (end < 0) return {0, read};
            bool const here = rank_of(s_, read.stage) == rank_of(s_, slot.stage);
            ready = std::max(ready, end + (here ? 0 : costs_.edge_seconds));
        }
        return {ready, {}};
    }

    void check_ended() const {
        constexpr int most = 8;
        std::string stuck;
        int count = 0;
        for (int rank = 0; rank < s_.ranks; ++rank) {
            auto const at = next_[static_cast<std::size_t>(rank)];
            auto const& row = s_.slots[static_cast<std::size_t>(rank)];
            if (at == row.size() || ++count > most) continue;
            auto const read = *readiness(row[at]).second;
            auto const owner = rank_of(s_, read.stage);
            auto const& other = s_.slots[static_cast<std::size_t>(owner)];
            auto const place = std::find(other.begin(), other.end(), read) - other.begin();
            stuck += fmt::format("{}{} ({}) waits for {} in ", stuck.empty() ? "" : "; ",
                                 place_of_slot(rank, at), to_string(row[at]), to_string(read));
            stuck += owner == rank ? fmt::format("its own slot {}", place)
                                   : fmt::format("slot {} of rank {}", place, owner);
        }
        if (count > most) stuck += fmt::format("; and {} more", count - most);
        check<UsageError>(count == 0, "schedule {}: a deadlock: {}: put each piece behind what it waits for",
                          s_.name, stuck);
    }

    Schedule const& s_;
    Costs const& costs_;
    Timeline& timeline_;
    std::vector<std::size_t> next_;
    std::vector<double> free_;  // when each rank is
    std::vector<double> ends_;  // of all pieces; -1 before
};

/// Peaks of copies and bytes. A rank's memory changes with its own slots alone, so their order is enough.
inline void count_live(Schedule const& s, Costs const& costs, std::vector<std::int64_t> const& limit_bytes,
                       Timeline& t) {
    auto const ranks = s.slots.size(), stages = static_cast<std::size_t>(s.stages);
    std::vector<int> rank_copies(ranks, 0), stage_copies(stages, 0);
    std::vector<std::int64_t> rank_bytes(ranks, 0), stage_bytes(stages, 0);
    t.rank_copies = rank_copies, t.stage_copies = stage_copies;
    t.rank_bytes = rank_bytes, t.stage_bytes = stage_bytes;
    for_each_slot(s, [&](int rank, std::size_t at, Slot const& slot) {
        auto const r = static_cast<std::size_t>(rank), k = static_cast<std::size_t>(slot.stage);
        auto const stash = costs.stash_bytes[k], held = costs.held_bytes[k];
        int const copies = slot.work == Work::F ? 1 : slot.work == Work::W ? -1 : 0;
        auto const bytes = slot.work == Work::F ? stash : slot.work == Work::B ? held - stash : -held;
        t.rank_copies[r] = std::max(t.rank_copies[r], rank_copies[r] += copies);
        t.stage_copies[k] = std::max(t.stage_copies[k], stage_copies[k] += copies);
        t.rank_bytes[r] = std::max(t.rank_bytes[r], rank_bytes[r] += bytes);
        t.stage_bytes[k] = std::max(t.stage_bytes[k], stage_bytes[k] += bytes);
        check<UsageError>(
            limit_bytes.empty() || rank_bytes[r] <= limit_bytes[r],
            "schedule {}: {} ({}) takes what waits for backward to {} bytes, over the limit of {}: "
            "do backward pieces earlier, or use smaller micro-batches",
            s.name, place_of_slot(rank, at), to_string(slot), rank_bytes[r],
            limit_bytes.empty() ? 0 : limit_bytes[r]);
    });
}

}  // namespace detail

PLAIT_INLINE void check_complete(Schedule const& s) {
    check<UsageError>(
        s.ranks >= 1 && s.stages >= 1 && s.micro_batches >= 1 &&
            s.slots.size() == static_cast<std::size_t>(s.ranks) &&
            s.rank_of_stage.size() == static_cast<std::size_t>(s.stages),
        "schedule {}: {} ranks with {} rows, {} stages with {} places, {} micro-batches: make them "
        "agree",
        s.name, s.ranks, s.slots.size(), s.stages, s.rank_of_stage.size(), s.micro_batches);
    for (int rank = 0; rank < s.ranks; ++rank)
        check<UsageError>(std::count(s.rank_of_stage.begin(), s.rank_of_stage.end(), rank) > 0,
                          "schedule {}: rank {} has no stage: use fewer ranks", s.name, rank);
    struct Place {
        std::int64_t piece;
        int rank;
        std::size_t slot;
    };
    std::vector<Place> places;
    detail::for_each_slot(s, [&](int rank, std::size_t at, Slot const& slot) {
        auto const where = detail::place_of_slot(rank, at);
        check<UsageError>(slot.stage >= 0 && slot.stage < s.stages,
                          "schedule {}: {}: {} is of no stage: they run "
                          "from 0 to {}",
                          s.name, where, to_string(slot), s.stages - 1);
        check<UsageError>(slot.micro >= 0 && slot.micro < s.micro_batches,
                          "schedule {}: {}: {} is of no micro-batch: they run from 0 to {}", s.name, where,
                          to_string(slot), s.micro_batches - 1);
        auto const owner = detail::rank_of(s, slot.stage);
        check<UsageError>(owner == rank,
                          "schedule {}: {}: {} belongs to rank {}, where its stage is: move it", s.name,
                          where, to_string(slot), owner);
        places.push_back({(std::int64_t{slot.stage} * s.micro_batches + slot.micro) * 3 +
                              static_cast<std::int64_t>(slot.work),
                          rank, at});
    });
    std::sort(places.begin(), places.end(), [](auto const& a, auto const& b) {
        return a.piece != b.piece ? a.piece < b.piece : a.slot < b.slot;
    });
    std::int64_t next = 0;
    auto check_none_forgotten = [&](std::int64_t to) {
        if (next == to) return;
        Slot const slot{static_cast<Work>(next % 3), static_cast<int>(next / 3 / s.micro_batches),
                        static_cast<int>(next / 3 % s.micro_batches)};
        auto const rank = detail::rank_of(s, slot.stage);
        fail<UsageError>("schedule {}: rank {} forgets {} in its slots 0 to {}: add it", s.name, rank,
                         to_string(slot), std::ssize(s.slots[static_cast<std::size_t>(rank)]) - 1);
    };
    for (std::size_t i = 0; i < places.size(); ++i) {
        auto const& p = places[i];
        if (p.piece < next) {
            auto const& slot = s.slots[static_cast<std::size_t>(p.rank)][p.slot];
            fail<UsageError>("schedule {}: {}: {} is done in slot {} already: take one out", s.name,
                             detail::place_of_slot(p.rank, p.slot), to_string(slot), places[i - 1].slot);
        }
        check_none_forgotten(p.piece);
        ++next;
    }
    check_none_forgotten(std::int64_t{3} * s.stages * s.micro_batches);
}

PLAIT_INLINE Timeline check_schedule(Schedule const& s, Costs const& given,
                                     std::vector<std::int64_t> const& limit_bytes) {
    check_complete(s);
    auto const costs = detail::filled_costs(s, given);
    check<UsageError>(limit_bytes.empty() || limit_bytes.size() == s.slots.size(),
                      "schedule {}: limits of memory for {} ranks, but it has {}: give one for each", s.name,
                      limit_bytes.size(), s.ranks);
    Timeline t;
    detail::ScheduleRun(s, costs, t).run();
    detail::count_live(s, costs, limit_bytes, t);
    double work = 0, bubbles = 0;
    for (auto const& row : t.pieces) t.makespan = std::max(t.makespan, row.back().end);
    for (auto const& row : t.pieces) {
        double busy = 0;
        for (auto const& p : row) busy += p.end - p.start;
        t.busy.push_back(busy);
        t.bubble.push_back(t.makespan - busy);
        t.inner_bubble.push_back(row.back().end - row.front().start - busy);
        work += busy, bubbles += t.bubble.back();
    }
    t.bubble_fraction = work > 0 ? bubbles / work : 0;
    return t;
}

PLAIT_INLINE void check_micro_order(Schedule const& s) {
    std::map<std::pair<Work, int>, int> next;
    detail::for_each_slot(s, [&](int rank, std::size_t at, Slot const& slot) {
        auto& wanted = next[{slot.work, slot.stage}];
        check<UsageError>(
            slot.micro == wanted,
            "schedule {}: {}: {} comes before {}{}{}: put the {} of a stage in the order of the "
            "micro-batches",
            s.name, detail::place_of_slot(rank, at), to_string(slot), slot.stage, letter_of(slot.work),
            wanted, letter_of(slot.work));
        ++wanted;
    });
}

}  // namespace plait
