#pragma once

#include "floor.hpp"
#include "options.hpp"
#include "plait/core/random.hpp"
#include "plait/exec/backend.hpp"
#include "plait/exec/trace_log.hpp"

#include <cstring>
#include <memory>
#include <thread>

namespace plait::benchmark {

/// Times products alone: each at its shape, by the program's backend, on operands that nobody else has.
class ProductClock {
  public:
    ProductClock(Floor const& floor, std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {
        for (auto const& p : floor.products) calls_.push_back(call_of(p));
        // Products take turns in the memory, so that timing them takes no more than the largest.
        for (auto const& [dtype, bytes] : pool_bytes_) {
            Array values({dtype, {bytes / byte_size(dtype)}});
            fill(values);
            pools_[dtype] = backend_->allocate(bytes);
            backend_->write(pools_[dtype].get(), values.bytes());
        }
        out_ = backend_->allocate(out_bytes_);
        workspace_ = backend_->allocate(workspace_bytes_);
    }

    /// Seconds of one call of product `n`: the median of three, after one that is not timed.
    double seconds_of(std::size_t n) {
        auto const& c = calls_[n];
        std::vector<Buffer> in, out;
        for (auto const& [meta, at] : c.in) in.push_back({pools_.at(meta.dtype).get() + at, meta, {}});
        for (auto const& [meta, at] : c.out) out.push_back({out_.get() + at, meta, {}});
        // The first call writes what the others may add to.
        std::vector<double> took;
        for (int i = 0; i < 4; ++i) {
            KernelCall call{&c.product->op, in, out, workspace_.get(), i > 0 ? c.product->accumulate : 0};
            took.push_back(seconds([&] { backend_->call(*c.row, call); }));
        }
        took.erase(took.begin());
        return median(took);
    }

  private:
    struct Call {
        FloorProduct const* product;
        KernelRow const* row;
        std::vector<std::pair<Meta, std::int64_t>> in, out;  // bytes before each
    };

    Call call_of(FloorProduct const& p) {
        Call c{&p, find_kernel(backend_->kernels(), p.op.name()), {}, {}};
        check(c.row != nullptr, "floor: the backend has no kernel for {}", p.op.name());
        auto place = [](std::int64_t& used, Meta const& m) {
            return std::exchange(used, used + (m.bytes() + 63) / 64 * 64);
        };
        std::map<DType, std::int64_t> used;
        std::int64_t written = 0;
        auto const out = p.op.infer(p.in);
        for (auto const& m : p.in) c.in.emplace_back(m, place(used[m.dtype], m));
        for (auto const& m : out) c.out.emplace_back(m, place(written, m));
        for (auto const& [dtype, bytes] : used) pool_bytes_[dtype] = std::max(pool_bytes_[dtype], bytes);
        out_bytes_ = std::max(out_bytes_, written);
        if (c.row->workspace)
            workspace_bytes_ =
                std::max(workspace_bytes_, c.row->workspace(p.op, p.in, out, backend_->workers()));
        return c;
    }
    static std::int64_t byte_size(DType dtype) { return Meta{dtype, {1}}.bytes(); }
    /// Floats in [-1, 1); integers stay zero.
    static void fill(Array const& a) {
        auto set = [](auto values) {
            std::uint64_t x = 1;
            for (auto& v : values) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                v = std::decay_t<decltype(v)>(static_cast<float>(static_cast<std::int64_t>(x)) * 0x1p-63f);
            }
        };
        if (a.meta().dtype == f32) set(a.values<float>());
        else if (a.meta().dtype == bf16) set(a.values<Bf16>());
        else if (a.meta().dtype == f64) set(a.values<double>());
    }

    std::shared_ptr<Backend> backend_;
    std::vector<Call> calls_;
    std::map<DType, std::int64_t> pool_bytes_;
    std::int64_t out_bytes_ = 0, workspace_bytes_ = 0;
    std::map<DType, std::shared_ptr<std::byte[]>> pools_;
    std::shared_ptr<std::byte[]> out_, workspace_;
};

/// Bytes a second, read and written, of copying what no cache holds, by so many threads.
class CopyClock {
  public:
    explicit CopyClock(int threads) : threads_(threads), from_(size, 1), to_(size) { rate(); }

    /// The best of three.
    double rate() {
        auto const part = size / static_cast<std::size_t>(threads_);
        double took = 1e30;
        for (int i = 0; i < 3; ++i)
            took = std::min(took, seconds([&] {
                                std::vector<std::jthread> threads;
                                for (int t = 0; t < threads_; ++t)
                                    threads.emplace_back([&, at = part * static_cast<std::size_t>(t)] {
                                        std::memcpy(to_.data() + at, from_.data() + at, part);
                                    });
                            }));
        return 2.0 * static_cast<double>(part) * threads_ / took;
    }

  private:
    static constexpr std::size_t size = 192 << 20;
    int threads_;
    std::vector<unsigned char> from_, to_;
};

/// A program beside its floor: rounds in which a step runs, then each product alone, then a copy. A machine
/// that others slow down slows all three.
class FloorReport {
  public:
    FloorReport(Program const& program, std::shared_ptr<Backend> backend)
        : floor_(floor_of(program)), products_(floor_, backend), copy_(backend->workers()) {}
    FloorReport(FloorReport const&) = delete;  // the clock points into the floor
    FloorReport& operator=(FloorReport const&) = delete;

    /// `run` runs one step and fills `log`.
    template <class Run>
    void round(Run&& run) {
        TraceLog log;
        Round r;
        r.step = seconds([&] { run(log); });
        r.in_step.resize(floor_.kinds.size());
        r.floor.resize(floor_.kinds.size());
        for (auto const& e : log.events)
            if (e.what == TraceLog::What::instruction)
                r.in_step[floor_.kind_of[static_cast<std::size_t>(e.index)]] +=
                    1e-9 * static_cast<double>(e.end - e.start);
        std::vector<double> alone;
        for (std::size_t p = 0; p < floor_.products.size(); ++p) {
            alone.push_back(products_.seconds_of(p));
            bool const attends = floor_.products[p].op.name().find("attention") != std::string_view::npos;
            (attends ? r.attention : r.products) += floor_.products[p].calls * alone.back();
        }
        r.rate = copy_.rate();
        for (std::size_t k = 0; k < floor_.kinds.size(); ++k) {
            for (auto const& [p, calls] : floor_.kinds[k].products) r.floor[k] += calls * alone[p];
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
    ProductClock products_;
    CopyClock copy_;
    std::vector<Round> rounds_;
};

}  // namespace plait::benchmark
