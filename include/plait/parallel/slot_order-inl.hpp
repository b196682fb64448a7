#pragma once

#include "plait/parallel/schedule_check.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

namespace plait::detail {

/// Where every slot of a schedule comes in one order in which all of them can run, by unit times. Without
/// backward (validation) the forward slots keep their order.
class SlotOrder {
  public:
    /// Throws UsageError for what check_schedule finds, and for micro-batches out of their order.
    SlotOrder(Schedule const& schedule, bool backward) {
        auto const timeline = check_schedule(schedule);
        check_micro_order(schedule);
        std::vector<std::tuple<double, std::size_t, Slot>> all;  // start, rank
        for (std::size_t r = 0; r < schedule.slots.size(); ++r) {
            auto& row = rows_.emplace_back();
            for (std::size_t i = 0; i < schedule.slots[r].size(); ++i) {
                auto const& slot = schedule.slots[r][i];
                if (!backward && slot.work != Work::F) continue;
                row.push_back(slot);
                all.emplace_back(timeline.pieces[r][i].start, r, slot);
            }
        }
        std::stable_sort(all.begin(), all.end(), [](auto const& a, auto const& b) {
            return std::pair(std::get<0>(a), std::get<1>(a)) < std::pair(std::get<0>(b), std::get<1>(b));
        });
        for (auto const& [start, rank, slot] : all) at_.emplace(key(slot), static_cast<int>(at_.size()));
    }

    std::vector<Slot> const& row(int rank) const { return rows_[static_cast<std::size_t>(rank)]; }
    int of(Slot const& slot) const { return at_.at(key(slot)); }
    int of(Slot slot, int micro) const {
        slot.micro = micro;
        return of(slot);
    }

  private:
    using Key = std::tuple<int, int, int>;
    static Key key(Slot const& s) { return {static_cast<int>(s.work), s.stage, s.micro}; }

    std::vector<std::vector<Slot>> rows_;
    std::map<Key, int> at_;
};

}  // namespace plait::detail
