#pragma once

#include "catch.hpp"
#include "plait/core/random.hpp"
#include "plait/parallel/schedule_check.hpp"
#include "plait/parallel/schedule_csv.hpp"
#include "scratch.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <tuple>

namespace plait {

/// The number of virtual stages to ask a row of the table for.
inline int virtual_stages_of(ScheduleRow const& row, int wanted) {
    return row.virtual_stages ? row.virtual_stages : wanted;
}

/// f(row, ranks, virtual stages, micro-batches) of everything that the table takes, up to these sizes.
template <class F>
void for_each_schedule(int ranks, int micro_batches, F&& f) {
    for (auto const& row : schedule_table())
        for (int p = 1; p <= ranks; ++p)
            for (int m = 1; m <= micro_batches; ++m)
                for (int v = 2; v <= (row.virtual_stages ? 2 : 4); ++v)
                    if (!row.whole_rounds || m % p == 0) f(row, p, virtual_stages_of(row, v), m);
}

/// The same costs for each of a schedule's stages.
inline Costs even_costs(Schedule const& s, double f, double b, double w) {
    auto all = [&](double x) { return std::vector<double>(static_cast<std::size_t>(s.stages), x); };
    return {all(f), all(b), all(w), 0, {}, {}};
}

/// Costs of each stage's own.
inline Costs random_costs(Schedule const& s, Random const& random) {
    auto costs = even_costs(s, 0, 0, 0);
    std::uint64_t at = 0;
    for (auto* values : {&costs.forward_seconds, &costs.input_seconds, &costs.weight_seconds})
        for (auto& v : *values) v = 0.1 + random.uniform(at++);
    costs.edge_seconds = random.uniform(at++);
    for (int i = 0; i < s.stages; ++i) {
        costs.stash_bytes.push_back(1 + random.word(at++) % 1000);
        costs.held_bytes.push_back(random.word(at++) % 1000);
    }
    return costs;
}

struct ScheduleEdge {
    Slot from, to;
    bool operator==(ScheduleEdge const&) const = default;
};

/// What the pieces read from one another, by the definition of a pipeline.
inline std::vector<ScheduleEdge> edges_of(Schedule const& s) {
    std::vector<ScheduleEdge> edges;
    for (int stage = 0; stage < s.stages; ++stage)
        for (int micro = 0; micro < s.micro_batches; ++micro) {
            Slot const f{Work::F, stage, micro}, b{Work::B, stage, micro}, w{Work::W, stage, micro};
            edges.push_back({f, b});
            edges.push_back({b, w});
            if (stage + 1 == s.stages) continue;
            edges.push_back({f, {Work::F, stage + 1, micro}});
            edges.push_back({{s.whole_backward ? Work::W : Work::B, stage + 1, micro}, b});
        }
    return edges;
}

/// The law of timelines: every piece takes its time and begins as early as its rank's order and all edges but
/// `dropped` let it. Returns what is wrong. Times are the longest paths, found by going over all edges until
/// nothing moves.
inline std::string timeline_fault(Schedule const& s, Costs const& costs, Timeline const& t,
                                  std::optional<ScheduleEdge> const& dropped = {}) {
    auto id = [&](Slot const& x) {
        return static_cast<std::size_t>((x.stage * s.micro_batches + x.micro) * 3 + static_cast<int>(x.work));
    };
    auto const count = static_cast<std::size_t>(s.stages) * static_cast<std::size_t>(s.micro_batches) * 3;
    std::vector<double> start(count, 0), time(count, 0);
    std::vector<std::tuple<std::size_t, std::size_t, double>> edges;
    for (auto const& row : s.slots)
        for (std::size_t i = 0; i < row.size(); ++i) {
            auto const k = static_cast<std::size_t>(row[i].stage);
            time[id(row[i])] = row[i].work == Work::F   ? costs.forward_seconds[k]
                               : row[i].work == Work::B ? costs.input_seconds[k]
                                                        : costs.weight_seconds[k];
            if (i) edges.emplace_back(id(row[i - 1]), id(row[i]), 0);
        }
    for (auto const& e : edges_of(s)) {
        auto rank = [&](Slot const& x) { return s.rank_of_stage[static_cast<std::size_t>(x.stage)]; };
        if (!dropped || !(e == *dropped))
            edges.emplace_back(id(e.from), id(e.to), rank(e.from) == rank(e.to) ? 0 : costs.edge_seconds);
    }
    bool moved = true;
    for (std::size_t passes = 0; moved; ++passes) {
        if (passes > count) return "the order goes in a circle";
        moved = false;
        for (auto const& [from, to, delay] : edges)
            if (auto const at = start[from] + time[from] + delay; at > start[to])
                start[to] = at, moved = true;
    }
    double last = 0;
    for (std::size_t r = 0; r < s.slots.size(); ++r)
        for (std::size_t i = 0; i < s.slots[r].size(); ++i) {
            auto const k = id(s.slots[r][i]);
            last = std::max(last, start[k] + time[k]);
            auto const& p = t.pieces[r][i];
            if (std::abs(p.start - start[k]) > 1e-9 || std::abs(p.end - start[k] - time[k]) > 1e-9)
                return fmt::format("{} is at {} to {}, not at {}", to_string(s.slots[r][i]), p.start, p.end,
                                   start[k]);
        }
    return std::abs(last - t.makespan) > 1e-9 ? fmt::format("the makespan is {}, not {}", t.makespan, last)
                                              : "";
}

/// Stages on random ranks, and on each rank a random order that works.
inline Schedule random_schedule(Random const& random) {
    std::uint64_t at = 0;
    auto below = [&](std::size_t n) { return static_cast<int>(random.word(at++) % n); };
    Schedule s;
    s.name = "random";
    s.ranks = 1 + below(4), s.stages = s.ranks + below(4), s.micro_batches = 1 + below(6);
    for (int i = 0; i < s.stages; ++i)
        s.rank_of_stage.push_back(i < s.ranks ? i : below(static_cast<std::size_t>(s.ranks)));
    for (auto i = s.rank_of_stage.size(); i > 1; --i)
        std::swap(s.rank_of_stage[i - 1], s.rank_of_stage[static_cast<std::size_t>(below(i))]);
    s.slots.resize(static_cast<std::size_t>(s.ranks));
    std::vector<Slot> ready;
    for (int i = 0; i < s.micro_batches; ++i) ready.push_back({Work::F, 0, i});
    while (!ready.empty()) {
        auto const pick = ready.begin() + below(ready.size());
        auto const x = *pick;
        ready.erase(pick);
        s.slots[static_cast<std::size_t>(s.rank_of_stage[static_cast<std::size_t>(x.stage)])].push_back(x);
        bool const last = x.stage + 1 == s.stages;
        if (x.work == Work::F)
            ready.push_back({last ? Work::B : Work::F, last ? x.stage : x.stage + 1, x.micro});
        if (x.work != Work::B) continue;
        ready.push_back({Work::W, x.stage, x.micro});
        if (x.stage > 0) ready.push_back({Work::B, x.stage - 1, x.micro});
    }
    return s;
}

}  // namespace plait
