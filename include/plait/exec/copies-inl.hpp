#pragma once

#include "plait/exec/program.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace plait::detail {

/// Which copy every micro-batch has of what several pieces of a pipeline share. It is in use from the
/// micro-batch's first visit to one of the pieces to its last.
class CopyTables {
  public:
    using Pieces = std::set<int>;

    CopyTables(Pipelined const& pipeline, std::int64_t micro_batches)
        : visits_(pipeline.visits), micro_batches_(static_cast<std::size_t>(micro_batches)) {}

    /// A table for each of the values that share one pool of copies. They have one count, the fewest that
    /// keep apart what is in use at one time; the lowest free copy is taken.
    std::vector<Program::Copies> of(std::vector<Pieces> const& values) const {
        struct Use {
            int first = -1, last = -1;  // visits
            std::size_t value = 0, micro = 0;
        };
        std::vector<Use> uses;
        std::vector<Program::Copies> tables;
        for (std::size_t k = 0; k < values.size(); ++k) {
            tables.push_back({0, std::vector<int>(micro_batches_, 0)});
            std::vector<Use> own(micro_batches_);
            for (std::size_t i = 0; i < visits_.size(); ++i) {
                if (!values[k].contains(visits_[i].piece)) continue;
                auto m = static_cast<std::size_t>(visits_[i].micro);
                if (own[m].first < 0) own[m] = {static_cast<int>(i), 0, k, m};
                own[m].last = static_cast<int>(i);
            }
            uses.insert(uses.end(), own.begin(), own.end());
        }
        std::stable_sort(uses.begin(), uses.end(),
                         [](auto const& a, auto const& b) { return a.first < b.first; });
        std::vector<int> busy;  // the last visit that needs a copy
        for (auto const& use : uses) {
            auto free = std::find_if(busy.begin(), busy.end(), [&](int until) { return until < use.first; });
            if (free == busy.end()) free = busy.insert(busy.end(), -1);
            *free = use.last;
            tables[use.value].of_micro[use.micro] = static_cast<int>(free - busy.begin());
        }
        for (auto& t : tables) t.count = static_cast<int>(busy.size());
        return tables;
    }

  private:
    std::vector<Pipelined::Visit> const& visits_;
    std::size_t micro_batches_;
};

/// Values of one size that share copies, where together they need fewer than apart: stages of one rank do, as
/// one has most micro-batches under way when another has few.
class CopyPools {
  public:
    CopyPools(Pipelined const& pipeline, std::int64_t micro_batches) : tables_(pipeline, micro_batches) {}

    /// Adds a value that is told by its `number`. One read after the loop shares with nobody.
    void add(int number, std::int64_t bytes, CopyTables::Pieces const& pieces) {
        auto alone = count(std::vector{pieces});
        Pool* best = nullptr;
        int least = alone;
        if (!pieces.contains(-1))
            for (auto& pool : pools_) {
                if (pool.bytes != bytes || pool.pieces.front().contains(-1)) continue;
                auto together = pool.pieces;
                together.push_back(pieces);
                if (int more = count(together) - count(pool.pieces); more < least) least = more, best = &pool;
            }
        if (!best) best = &pools_.emplace_back(Pool{bytes, {}, {}});
        best->numbers.push_back(number), best->pieces.push_back(pieces);
    }

    /// f(numbers, table of each) of every pool; values whose pieces are the same have the same tables.
    template <class F>
    void for_each(std::vector<Program::Copies>& program, F&& f) const {
        std::map<std::vector<CopyTables::Pieces>, int> known;
        for (auto const& pool : pools_) {
            auto [it, fresh] = known.try_emplace(pool.pieces, static_cast<int>(program.size()));
            if (fresh)
                for (auto& t : tables_.of(pool.pieces)) program.push_back(std::move(t));
            f(pool.numbers, it->second);
        }
    }

  private:
    struct Pool {
        std::int64_t bytes = 0;  // of a copy
        std::vector<int> numbers;
        std::vector<CopyTables::Pieces> pieces;
    };
    int count(std::vector<CopyTables::Pieces> const& pieces) {
        auto [it, fresh] = counts_.try_emplace(pieces, 0);
        if (fresh) it->second = tables_.of(pieces).front().count;
        return it->second;
    }

    CopyTables tables_;
    std::vector<Pool> pools_;
    std::map<std::vector<CopyTables::Pieces>, int> counts_;
};

}  // namespace plait::detail
