#pragma once

#include "plait/core/check.hpp"
#include "plait/parallel/schedule.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

namespace plait::detail {

/// Where every slot of a schedule comes in one order in which all of them can run, by unit times.
class SlotOrder {
  public:
    SlotOrder(Schedule const& s, bool backward) : schedule_(s) {
        for (auto const& row : s.slots) {
            auto& kept = rows_.emplace_back();
            for (auto const& slot : row)
                if (backward || slot.work == Work::F) kept.push_back(slot);
        }
        check_micro_order();
        run();
    }

    std::vector<Slot> const& row(int rank) const { return rows_[static_cast<std::size_t>(rank)]; }
    int of(Work work, int stage, int micro) const { return at_.at(key(work, stage, micro)); }

  private:
    using Key = std::tuple<int, int, int>;
    static Key key(Work w, int stage, int micro) { return {static_cast<int>(w), stage, micro}; }

    void check_micro_order() const {
        std::map<std::pair<int, int>, int> next;
        for (auto const& row : rows_)
            for (auto const& slot : row) {
                auto& micro = next[{static_cast<int>(slot.work), slot.stage}];
                check<UsageError>(slot.micro == micro,
                                  "schedule {}: {} comes where {} should: each piece of a stage runs its "
                                  "micro-batches in their order, as sums over them do",
                                  schedule_.name, to_string(slot),
                                  to_string(Slot{slot.work, slot.stage, micro}));
                ++micro;
            }
    }

    std::vector<Key> needs(Slot const& s) const {
        std::vector<Key> list;
        if (s.work == Work::F && s.stage > 0) list.push_back(key(Work::F, s.stage - 1, s.micro));
        if (s.work == Work::B) {
            list.push_back(key(Work::F, s.stage, s.micro));
            if (s.stage + 1 < schedule_.stages) list.push_back(key(Work::B, s.stage + 1, s.micro));
        }
        if (s.work == Work::W) list.push_back(key(Work::B, s.stage, s.micro));
        return list;
    }

    void run() {
        std::vector<std::size_t> next(rows_.size(), 0);
        std::map<Key, int> end;
        std::vector<int> free(rows_.size(), 0);
        for (int done = 0;; ++done) {
            int best = -1, start = 0;
            for (std::size_t r = 0; r < rows_.size(); ++r) {
                if (next[r] == rows_[r].size()) continue;
                int ready = free[r];
                bool runs = true;
                for (auto const& need : needs(rows_[r][next[r]])) {
                    auto it = end.find(need);
                    runs = runs && it != end.end();
                    if (runs) ready = std::max(ready, it->second);
                }
                if (runs && (best < 0 || ready < start)) best = static_cast<int>(r), start = ready;
            }
            if (best < 0) break;
            auto r = static_cast<std::size_t>(best);
            auto const& slot = rows_[r][next[r]++];
            at_[key(slot.work, slot.stage, slot.micro)] = done;
            end[key(slot.work, slot.stage, slot.micro)] = free[r] = start + 1;
        }
        for (std::size_t r = 0; r < rows_.size(); ++r)
            check<UsageError>(next[r] == rows_[r].size(), "schedule {}: rank {} waits for ever at {}",
                              schedule_.name, r, to_string(rows_[r][std::min(next[r], rows_[r].size() - 1)]));
    }

    Schedule const& schedule_;
    std::vector<std::vector<Slot>> rows_;
    std::map<Key, int> at_;
};

}  // namespace plait::detail
