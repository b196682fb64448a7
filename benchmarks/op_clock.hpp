#pragma once

#include "floor.hpp"
#include "options.hpp"
#include "plait/exec/backend.hpp"
#include "plait/ops/view.hpp"

#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <thread>

namespace plait::benchmark {

/// Seconds of one of the calls that call(first) asks a device for: the median of three runs, after a call
/// that is not timed. On a device that works out of step with the host a run is as many calls as take 20 ms,
/// so that what asking for one, and waiting, costs the host does not count.
template <class Call>
double timed_calls(Backend& backend, Call&& call) {
    auto run = [&](int calls) {
        return seconds([&] {
            for (int i = 0; i < calls; ++i) call(false);
            backend.finish();
        });
    };
    call(true);
    backend.finish();
    int calls = 1;
    // A wait for a device takes longer than many a call, so some calls tell how long one is.
    constexpr int some = 20;
    if (!backend.shares_memory()) calls = static_cast<int>(std::clamp(20e-3 * some / run(some), 1.0, 2000.0));
    std::vector<double> took;
    for (int i = 0; i < 3; ++i) took.push_back(run(calls) / calls);
    return median(took);
}

/// Times ops alone: each at its shape, by the program's backend, on operands that nobody else has.
class OpClock {
  public:
    /// Ops of one row that a device takes in one go, each with places of its own, or a single op.
    using Group = std::vector<FloorProduct>;

    OpClock(std::vector<Group> groups, std::shared_ptr<Backend> backend)
        : backend_(std::move(backend)), groups_(std::move(groups)) {
        for (auto const& g : groups_) calls_.push_back(calls_of(g));
        // Groups take turns in the memory, so that timing them takes no more than the largest.
        for (auto const& [dtype, bytes] : pool_bytes_) {
            Array values({dtype, {std::min<std::int64_t>(bytes, 64 << 20) / byte_size(dtype)}});
            fill(values, rows_);
            pools_[dtype] = backend_->allocate(bytes);
            for (std::int64_t at = 0; at < bytes; at += values.meta().bytes())
                backend_->write(
                    pools_[dtype].get() + at,
                    std::span(std::as_const(values).bytes())
                        .first(static_cast<std::size_t>(std::min(bytes - at, values.meta().bytes()))));
        }
        out_ = backend_->allocate(out_bytes_);
        workspace_ = backend_->allocate(workspace_bytes_);
    }

    std::vector<Group> const& groups() const { return groups_; }

    /// Seconds of one call of group `n`: see timed_calls.
    double seconds_of(std::size_t n) {
        auto const& group = calls_[n];
        std::vector<std::vector<Buffer>> in(group.size()), out(group.size());
        std::vector<KernelCall> calls;
        for (std::size_t i = 0; i < group.size(); ++i) {
            auto const& c = group[i];
            for (auto const& [meta, at] : c.in) in[i].push_back({pools_.at(meta.dtype).get() + at, meta, {}});
            for (auto const& [meta, at] : c.out) out[i].push_back({out_.get() + at, meta, {}});
            for (auto const& alias : c.op->op.aliases()) {
                auto const& from = in[i][static_cast<std::size_t>(alias.input)];
                auto& to = out[i][static_cast<std::size_t>(alias.output)];
                if (from.meta.bytes() == to.meta.bytes()) to.data = from.data;
            }
            calls.push_back({.op = &c.op->op, .in = in[i], .out = out[i], .workspace = workspace_.get()});
        }
        return timed_calls(*backend_, [&](bool first) {
            // The first call writes what the others may add to.
            for (std::size_t i = 0; i < group.size(); ++i)
                calls[i].accumulate = first ? 0 : group[i].op->accumulate;
            if (calls.size() > 1) backend_->call_many(*group[0].row, calls);
            else backend_->call(*group[0].row, calls[0]);
        });
    }

  private:
    struct Call {
        FloorProduct const* op;
        KernelRow const* row;
        std::vector<std::pair<Meta, std::int64_t>> in, out;  // bytes before each
    };

    std::vector<Call> calls_of(Group const& group) {
        auto place = [](std::int64_t& used, Meta const& m) {
            return std::exchange(used, used + (m.bytes() + 255) / 256 * 256);
        };
        std::map<DType, std::int64_t> used;
        std::int64_t written = 0;
        std::vector<Call> calls;
        // Scalars and keys are one for all, as in a step: what differs in them is not made in one go.
        std::map<std::size_t, std::int64_t> shared;
        for (auto const& p : group) {
            Call c{&p, find_kernel(backend_->kernels(), p.op.name()), {}, {}};
            check(c.row != nullptr, "the backend has no kernel for {}", p.op.name());
            auto const out = p.op.infer(p.in);
            for (std::size_t i = 0; i < p.in.size(); ++i) {
                auto const& m = p.in[i];
                bool const one = m.shape.empty() || m == Meta{i32, {2}};
                auto const known = one ? shared.find(i) : shared.end();
                auto const at = known != shared.end() ? known->second : place(used[m.dtype], m);
                if (one) shared[i] = at;
                c.in.emplace_back(m, at);
            }
            for (auto const& m : out) c.out.emplace_back(m, place(written, m));
            if (c.row->workspace)
                workspace_bytes_ =
                    std::max(workspace_bytes_, c.row->workspace(p.op, p.in, out, backend_->workers()));
            calls.push_back(std::move(c));
            rows_ = std::min(rows_, rows_of_table(p));
        }
        for (auto const& [dtype, bytes] : used) pool_bytes_[dtype] = std::max(pool_bytes_[dtype], bytes);
        out_bytes_ = std::max(out_bytes_, written);
        return calls;
    }
    /// Rows of the table, or classes, that the op's integers choose from; those of other ops may be any.
    static std::int64_t rows_of_table(FloorProduct const& p) {
        auto const& name = p.op.name();
        if (name == Embedding::name) return p.in[1].shape[0];
        if (name == EmbeddingGradient::name) return p.in[2].shape[0];
        if (name == CrossEntropy::name || name == CrossEntropyGradient::name || name == Pick::name)
            return p.in[0].shape.back();
        if (name.starts_with(LinearCrossEntropy::name) || name == LinearLossBlocks::name)
            return p.in[1].shape[0];
        return std::numeric_limits<std::int32_t>::max();
    }
    static std::int64_t byte_size(DType dtype) { return Meta{dtype, {1}}.bytes(); }
    /// Floats in [-1, 1), integers from 1 to below `rows`, and flags that are set.
    static void fill(Array const& a, std::int64_t rows) {
        auto set = [](auto values) {
            std::uint64_t x = 1;
            for (auto& v : values) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                v = std::decay_t<decltype(v)>(static_cast<float>(static_cast<std::int64_t>(x)) * 0x1p-63f);
            }
        };
        auto count = [choices = static_cast<std::uint64_t>(std::clamp<std::int64_t>(rows - 1, 1, 1 << 20))](
                         auto values) {
            std::uint64_t x = 1;
            for (auto& v : values) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                v = static_cast<std::decay_t<decltype(v)>>(1 + (x >> 33) % choices);
            }
        };
        if (a.meta().dtype == f32) set(a.values<float>());
        else if (a.meta().dtype == bf16) set(a.values<Bf16>());
        else if (a.meta().dtype == f64) set(a.values<double>());
        else if (a.meta().dtype == i32) count(a.values<std::int32_t>());
        else if (a.meta().dtype == i64) count(a.values<std::int64_t>());
        else
            for (auto& flag : a.values<std::uint8_t>()) flag = 1;
    }

    std::shared_ptr<Backend> backend_;
    std::vector<Group> groups_;
    std::vector<std::vector<Call>> calls_;
    std::map<DType, std::int64_t> pool_bytes_;
    std::int64_t out_bytes_ = 0, workspace_bytes_ = 0;
    std::int64_t rows_ = std::numeric_limits<std::int32_t>::max();  // of the smallest table
    std::map<DType, std::shared_ptr<std::byte[]>> pools_;
    std::shared_ptr<std::byte[]> out_, workspace_;
};

/// Groups of one op each.
inline std::vector<OpClock::Group> alone(std::vector<FloorProduct> const& ops) {
    std::vector<OpClock::Group> groups;
    for (auto const& one : ops) groups.push_back({one});
    return groups;
}

/// Bytes a second, read and written, of copying what no cache holds, by the device.
class CopyClock {
  public:
    explicit CopyClock(std::shared_ptr<Backend> backend)
        : backend_(std::move(backend)),
          size_(backend_->shares_memory() ? std::int64_t{192} << 20 : std::int64_t{1} << 30),
          from_(backend_->allocate(size_)),
          to_(backend_->allocate(size_)) {
        // Pages that nobody wrote to are all one.
        std::vector<std::byte> const ones(std::size_t{1} << 20, std::byte{1});
        for (std::int64_t at = 0; at < size_; at += std::ssize(ones)) backend_->write(from_.get() + at, ones);
        rate();
    }

    /// The best of three.
    double rate() {
        double took = 1e30;
        for (int i = 0; i < 3; ++i)
            took = std::min(took, backend_->shares_memory() ? seconds([&] { by_threads(); })
                                                            : timed_calls(*backend_, [&](bool) { by_op(); }));
        return 2.0 * static_cast<double>(size_) / took;
    }

  private:
    void by_threads() {
        auto const part = size_ / backend_->workers();
        std::vector<std::jthread> threads;
        for (int t = 0; t < backend_->workers(); ++t)
            threads.emplace_back([&, at = part * t] {
                std::memcpy(to_.get() + at, from_.get() + at, static_cast<std::size_t>(part));
            });
    }
    void by_op() {
        Meta const meta{f32, {size_ / 4}};
        AnyOp const op(Reshape{meta.shape});
        Buffer const in[] = {{from_.get(), meta, {}}}, out[] = {{to_.get(), meta, {}}};
        KernelCall call{.op = &op, .in = in, .out = out};
        backend_->call(*find_kernel(backend_->kernels(), op.name()), call);
    }

    std::shared_ptr<Backend> backend_;
    std::int64_t size_;
    std::shared_ptr<std::byte[]> from_, to_;
};

}  // namespace plait::benchmark
