#pragma once

#include "floor.hpp"
#include "op_clock.hpp"
#include "options.hpp"
#include "plait/exec/trace_log.hpp"

#include <memory>

namespace plait::benchmark {

/// A program beside its floor: rounds in which a step runs, then each product alone, then a copy. A machine
/// that others slow down slows all three.
class FloorReport {
  public:
    FloorReport(Program const& program, std::shared_ptr<Backend> backend)
        : floor_(floor_of(program)),
          backend_(backend),
          products_(alone(floor_.products), backend),
          copy_(backend) {}
    FloorReport(FloorReport const&) = delete;  // the clock points into the floor
    FloorReport& operator=(FloorReport const&) = delete;

    /// run(log) runs one step, whose times go to `log` where that is not null. A device that works out of
    /// step with the host is slower while it is looked at: there the step is one that is not.
    template <class Run>
    void round(Run&& run) {
        TraceLog log;
        Round r;
        if (!backend_->shares_memory()) r.step = seconds([&] { run(nullptr); });
        auto const looked_at = seconds([&] { run(&log); });
        if (backend_->shares_memory()) r.step = looked_at;
        r.in_step.resize(floor_.kinds.size());
        r.floor.resize(floor_.kinds.size());
        for (auto const& e : log.events)
            if (e.what == TraceLog::What::instruction)
                r.in_step[floor_.kind_of[static_cast<std::size_t>(e.index)]] +=
                    1e-9 * static_cast<double>(e.end - e.start);
        std::vector<double> took;
        for (std::size_t p = 0; p < floor_.products.size(); ++p) {
            took.push_back(products_.seconds_of(p));
            bool const attends = floor_.products[p].op.name().find("attention") != std::string_view::npos;
            (attends ? r.attention : r.products) += floor_.products[p].calls * took.back();
        }
        r.rate = copy_.rate();
        for (std::size_t k = 0; k < floor_.kinds.size(); ++k) {
            for (auto const& [p, calls] : floor_.kinds[k].products) r.floor[k] += calls * took[p];
            r.floor[k] += floor_.kinds[k].bytes / r.rate;
            r.whole += r.floor[k];
        }
        rounds_.push_back(std::move(r));
    }

    /// Medians of the rounds, in seconds; the share is the median of each round's.
    double floor_seconds() const {
        return of([](Round const& r) { return r.whole; });
    }
    double share() const {
        return of([](Round const& r) { return r.whole / r.step; });
    }

    void print() const {
        auto const step = of([](Round const& r) { return r.step; });
        fmt::print(
            "\n| products s | attention s | the rest: GB | copy GB/s | bytes / rate s | floor s | step s | "
            "floor / step |\n|---|---|---|---|---|---|---|---|\n"
            "| {:.4f} | {:.4f} | {:.3f} | {:.1f} | {:.4f} | {:.4f} | {:.4f} | {:.1f} % |\n",
            of([](Round const& r) { return r.products; }), of([](Round const& r) { return r.attention; }),
            1e-9 * floor_.bytes(), of([](Round const& r) { return 1e-9 * r.rate; }),
            of([&](Round const& r) { return floor_.bytes() / r.rate; }), floor_seconds(), step,
            100 * share());
        print_kinds();
    }

  private:
    struct Round {
        double step = 0, rate = 0, products = 0, attention = 0, whole = 0;
        std::vector<double> in_step, floor;  // of each kind
    };
    template <class F>
    double of(F&& f) const {
        std::vector<double> values;
        for (auto const& r : rounds_) values.push_back(f(r));
        return median(std::move(values));
    }

    /// Where the step is short: what each op takes in it beyond its floor, dearest first.
    void print_kinds() const {
        struct Line {
            std::string name;
            double calls, in_step, floor;
        };
        std::vector<Line> lines;
        for (std::size_t k = 0; k < floor_.kinds.size(); ++k)
            lines.push_back({floor_.kinds[k].name, floor_.kinds[k].calls,
                             of([&](Round const& r) { return r.in_step[k]; }),
                             of([&](Round const& r) { return r.floor[k]; })});
        lines.push_back({"between instructions", 1, of([](Round const& r) {
                             auto rest = r.step;
                             for (auto s : r.in_step) rest -= s;
                             return rest;
                         }),
                         0});
        Line others{"others", 0, 0, 0};
        auto const step = of([](Round const& r) { return r.step; });
        std::erase_if(lines, [&](Line const& l) {
            if (std::max(l.in_step, l.floor) > 1e-3 * step) return false;
            others.calls += l.calls, others.in_step += l.in_step, others.floor += l.floor;
            return true;
        });
        lines.push_back(others);
        std::sort(lines.begin(), lines.end(),
                  [](Line const& a, Line const& b) { return a.in_step - a.floor > b.in_step - b.floor; });
        fmt::print(
            "\n| op | calls | in the step ms | floor ms | floor / step | beyond ms "
            "|\n|---|---|---|---|---|---|\n");
        for (auto const& l : lines)
            fmt::print("| {} | {:.0f} | {:.2f} | {:.2f} | {:.0f} % | {:+.2f} |\n", l.name, l.calls,
                       1e3 * l.in_step, 1e3 * l.floor, 100 * l.floor / l.in_step,
                       1e3 * (l.in_step - l.floor));
    }

    Floor floor_;
    std::shared_ptr<Backend> backend_;
    OpClock products_;
    CopyClock copy_;
    std::vector<Round> rounds_;
};

}  // namespace plait::benchmark
