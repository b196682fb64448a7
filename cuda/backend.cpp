#include "plait/cuda/device.hpp"

#include "cuda/machine.hpp"
#include "cuda/rows.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace plait::cuda {
namespace {

/// Two pieces of host memory that copies go through: one is filled while the device reads the other.
class Staging {
  public:
    explicit Staging(Machine& machine) : machine_(machine) {}

    void write(std::byte* to, std::span<std::byte const> from) {
        while (!from.empty()) {
            if (used_ == piece_bytes) next();
            auto part = from.first(std::min(from.size(), piece_bytes - used_));
            auto* at = memory(current_) + used_;
            std::memcpy(at, part.data(), part.size());
            machine_.copy_in(Machine::kernels, to, at, static_cast<std::int64_t>(part.size()));
            to += part.size();
            from = from.subspan(part.size());
            used_ += part.size();
        }
    }

    /// The device copies a piece while the host empties the one before.
    void read(std::span<std::byte> to, std::byte const* from) {
        next();
        std::span<std::byte> waits;  // for what the device was asked for last
        while (!to.empty() || !waits.empty()) {
            auto const part = to.first(std::min(to.size(), piece_bytes));
            auto const before = std::exchange(waits, part);
            auto const reached = before.empty() ? -1 : machine_.record(Machine::kernels);
            if (!part.empty())
                machine_.copy_out(Machine::kernels, memory(1 - current_), from,
                                  static_cast<std::int64_t>(part.size()));
            if (reached >= 0) {
                machine_.finish(reached);
                std::memcpy(before.data(), memory(current_), before.size());
            }
            current_ = 1 - current_;
            from += part.size();
            to = to.subspan(part.size());
        }
        machine_.finish();
    }

  private:
    static constexpr std::size_t piece_bytes = 4 << 20;
    struct Piece {
        std::shared_ptr<std::byte[]> memory{};
        Machine::Event read = -1;  // by the device, all that it held last
    };

    std::byte* memory(std::size_t i) {
        if (!pieces_[i].memory) pieces_[i].memory = machine_.allocate_host(piece_bytes);
        return pieces_[i].memory.get();
    }
    void next() {
        if (used_ > 0) pieces_[current_].read = machine_.record(Machine::kernels);
        current_ = 1 - current_;
        used_ = 0;
        if (auto& read = pieces_[current_].read; read >= 0) machine_.finish(std::exchange(read, -1));
    }

    Machine& machine_;
    std::array<Piece, 2> pieces_;
    std::size_t current_ = 0, used_ = 0;
};

class Device final : public Backend {
  public:
    Device(std::shared_ptr<Machine> machine, BackendOptions options)
        : machine_(std::move(machine)), options_(options), staging_(*machine_) {}

    std::string_view name() const override { return "cuda"; }
    KernelTable kernels() const override { return rows(); }

    bool shares_memory() const override { return false; }
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override {
        auto free = machine_->free_bytes();
        check<UsageError>(bytes <= free,
                          "{} has {} bytes free, and the program wants {}: use a smaller batch, more "
                          "micro-batches, recomputation or more GPUs",
                          machine_->description(), free, bytes);
        return machine_->allocate(bytes);
    }
    void write(std::byte* to, std::span<std::byte const> from) override { staging_.write(to, from); }
    void read(std::span<std::byte> to, std::byte const* from) override { staging_.read(to, from); }

    void call(KernelRow const& row, KernelCall& call) override {
        call.queue = &machine_->queue(Machine::kernels);
        row.run(call);
        end();
    }
    void call_many(KernelRow const& row, std::span<KernelCall> calls) override {
        for (auto& one : calls) one.queue = &machine_->queue(Machine::kernels);
        row.run_many(calls);
        end();
    }
    void finish() override { machine_->finish(); }
    void begin(int instruction, AnyOp const& op) override { machine_->begin(instruction, op.name()); }
    bool records() const override { return !options_.sync; }
    std::unique_ptr<RecordedStep> record(std::function<void()> const& step) override {
        machine_->begin_recording();
        try {
            step();
        } catch (...) {
            try {
                machine_->end_recording();
            } catch (...) {}
            throw;
        }
        return machine_->end_recording();
    }

  private:
    void end() {
        if (options_.sync) machine_->finish();
    }

    std::shared_ptr<Machine> machine_;
    BackendOptions options_;
    Staging staging_;
};

class Planning final : public Backend {
  public:
    std::string_view name() const override { return "cuda"; }
    KernelTable kernels() const override { return rows(); }
    bool shares_memory() const override { return false; }
    std::shared_ptr<std::byte[]> allocate(std::int64_t) override { refuse(); }
    void write(std::byte*, std::span<std::byte const>) override { refuse(); }
    void read(std::span<std::byte>, std::byte const*) override { refuse(); }
    void call(KernelRow const&, KernelCall&) override { refuse(); }

  private:
    [[noreturn]] static void refuse() { fail("a program that was compiled to be looked at cannot run"); }
};

}  // namespace

std::string description(Machine const& gpu) { return gpu.description(); }

std::int64_t free_bytes(Machine const& gpu) { return gpu.free_bytes(); }

std::shared_ptr<Backend> planning_backend() { return std::make_shared<Planning>(); }

std::shared_ptr<Backend> make_backend(std::shared_ptr<Machine> machine, BackendOptions options) {
    return std::make_shared<Device>(std::move(machine), options);
}

}  // namespace plait::cuda
