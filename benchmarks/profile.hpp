#pragma once

#include "plait/exec/backend.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace plait {

/// Another backend, with the time of each kernel by op and shapes.
class ProfilingBackend final : public Backend {
  public:
    explicit ProfilingBackend(std::shared_ptr<Backend> inner) : inner_(std::move(inner)) {}

    std::string_view name() const override { return inner_->name(); }
    KernelTable kernels() const override { return inner_->kernels(); }
    int workers() const override { return inner_->workers(); }
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override { return inner_->allocate(bytes); }
    void write(std::byte* to, std::span<std::byte const> from) override { inner_->write(to, from); }
    void read(std::span<std::byte> to, std::byte const* from) override { inner_->read(to, from); }

    bool shares_memory() const override { return inner_->shares_memory(); }
    void finish() override { inner_->finish(); }
    void begin(int instruction, AnyOp const& op) override { inner_->begin(instruction, op); }

    std::shared_ptr<Backend> const& inner() const { return inner_; }

    void call(KernelRow const& row, KernelCall& call) override {
        inner_->finish();
        auto begin = std::chrono::steady_clock::now();
        inner_->call(row, call);
        inner_->finish();
        std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        Metas in;
        for (auto const& b : call.in) in.push_back(b.meta);
        std::string shapes;
        for (auto const& m : in)
            if (shapes.size() < 100) shapes += " " + to_string(m);
        auto& line = lines_[{call.op->text(), shapes}];
        auto cost = call.op->cost(in);
        ++line.calls, line.seconds += took.count(), line.flops += cost.flops;
        line.bytes += cost.bytes_read + cost.bytes_written;
    }

    /// Forgets what has been timed.
    void clear() { lines_.clear(); }

    /// Per step, by op and then by op and shapes, dearest first; Gflop/s and GB/s by the ops' own costs.
    void print(std::FILE* to, int steps) const {
        std::map<Key, Line> by_op;
        Line all;
        for (auto const& [key, line] : lines_) {
            by_op[{key.first.substr(0, key.first.find('(')), ""}] += line;
            all += line;
        }
        print(to, {{{"all", ""}, all}}, steps, all.seconds);
        print(to, by_op, steps, all.seconds);
        print(to, lines_, steps, all.seconds);
    }

  private:
    using Key = std::pair<std::string, std::string>;
    struct Line {
        std::int64_t calls = 0;
        double seconds = 0, flops = 0, bytes = 0;
        void operator+=(Line const& o) {
            calls += o.calls, seconds += o.seconds, flops += o.flops, bytes += o.bytes;
        }
    };

    static void print(std::FILE* to, std::map<Key, Line> const& lines, int steps, double total) {
        std::vector<std::pair<Key, Line>> sorted(lines.begin(), lines.end());
        std::sort(sorted.begin(), sorted.end(),
                  [](auto const& a, auto const& b) { return a.second.seconds > b.second.seconds; });
        std::fprintf(to, "\n      ms     %%  calls  Gflop/s    GB/s\n");
        for (auto const& [key, l] : sorted)
            std::fprintf(to, "%8.2f %5.1f %6.0f %8.1f %7.1f  %s%s\n", 1e3 * l.seconds / steps,
                         100 * l.seconds / total, static_cast<double>(l.calls) / steps,
                         l.flops / l.seconds / 1e9, l.bytes / l.seconds / 1e9, key.first.c_str(),
                         key.second.c_str());
    }

    std::shared_ptr<Backend> inner_;
    std::map<Key, Line> lines_;
};

}  // namespace plait
