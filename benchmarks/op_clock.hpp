#pragma once

#include "floor.hpp"
#include "options.hpp"
#include "plait/exec/backend.hpp"
#include "plait/ops/view.hpp"

#include <cstring>
#include <map>
#include <memory>
#include <thread>

namespace plait::benchmark {

/// Seconds of one of the calls that call(first) asks a device for: the median of three runs, after a call
/// that is not timed. On a device that works out of step with the host a run is as many calls as take 2 ms,
/// so that what asking for one costs the host does not count.
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
    if (!backend.shares_memory()) calls = static_cast<int>(std::clamp(2e-3 / run(1), 1.0, 200.0));
    std::vector<double> took;
    for (int i = 0; i < 3; ++i) took.push_back(run(calls) / calls);
    return median(took);
}

/// Times ops alone: each at its shape, by the program's backend, on operands that nobody else has.
class OpClock {
  public:
    OpClock(std::vector<FloorProduct> const& ops, std::shared_ptr<Backend> backend)
        : backend_(std::move(backend)) {
        for (auto const& p : ops) calls_.push_back(call_of(p));
        // Ops take turns in the memory, so that timing them takes no more than the largest.
        for (auto const& [dtype, bytes] : pool_bytes_) {
            Array values({dtype, {bytes / byte_size(dtype)}});
            fill(values);
            pools_[dtype] = backend_->allocate(bytes);
            backend_->write(pools_[dtype].get(), values.bytes());
        }
        out_ = backend_->allocate(out_bytes_);
        workspace_ = backend_->allocate(workspace_bytes_);
    }

    /// Seconds of one call of op `n`: the median of three, after one that is not timed.
    double seconds_of(std::size_t n) {
        auto const& c = calls_[n];
        std::vector<Buffer> in, out;
        for (auto const& [meta, at] : c.in) in.push_back({pools_.at(meta.dtype).get() + at, meta, {}});
        for (auto const& [meta, at] : c.out) out.push_back({out_.get() + at, meta, {}});
        for (auto const& alias : c.product->op.aliases())
            if (same_size(in[static_cast<std::size_t>(alias.input)],
                          out[static_cast<std::size_t>(alias.output)]))
                out[static_cast<std::size_t>(alias.output)].data =
                    in[static_cast<std::size_t>(alias.input)].data;
        return timed_calls(*backend_, [&](bool first) {
            // The first call writes what the others may add to.
            KernelCall call{&c.product->op, in, out, workspace_.get(), first ? 0 : c.product->accumulate};
            backend_->call(*c.row, call);
        });
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
    static bool same_size(Buffer const& a, Buffer const& b) { return a.meta.bytes() == b.meta.bytes(); }
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
