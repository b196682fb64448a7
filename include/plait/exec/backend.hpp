#pragma once

#include "plait/exec/kernel.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace plait {

/// What a device was once asked for, to be done any number of times.
class RecordedStep {
  public:
    virtual ~RecordedStep() = default;
    virtual void replay() = 0;
};

/// A failure of a device that works out of step with the host. It happened in one of the instructions
/// [first, last] of the program that ran; unknown where they are negative.
struct DeviceFault : Error {
    explicit DeviceFault(std::string const& what, int from = -1, int to = -1)
        : Error(what), first(from), last(to) {}
    int first = -1, last = -1;
};

/// A device that runs programs: a table of kernels, memory, and a way to call a kernel.
class Backend {
  public:
    virtual ~Backend() = default;

    virtual std::string_view name() const = 0;
    virtual KernelTable kernels() const = 0;
    /// Kernels may ask for scratch per worker.
    virtual int workers() const { return 1; }

    /// Memory of the device, 64-byte aligned and zeroed; freed with the last copy of the pointer.
    /// Throws Error with the size when there is not enough.
    virtual std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) = 0;
    /// Whether the host may use that memory itself.
    virtual bool shares_memory() const { return true; }
    /// Host to device and back, after all that was asked for before. `from` may change when `write` returns,
    /// `to` holds the values when `read` does, which throws DeviceFault.
    virtual void write(std::byte* to, std::span<std::byte const> from) = 0;
    virtual void read(std::span<std::byte> to, std::byte const* from) = 0;

    virtual void call(KernelRow const& row, KernelCall& call) = 0;
    /// Calls that need nothing of one another, of a row that has `run_many`; the workspace is the first
    /// one's.
    virtual void call_many(KernelRow const& row, std::span<KernelCall> calls) {
        for (auto& one : calls) call(row, one);
    }
    /// What is asked for from now on belongs to this instruction of the program.
    virtual void begin(int /*instruction*/, AnyOp const& /*op*/) {}
    /// Returns when all that was asked for is done. Throws DeviceFault.
    virtual void finish() {}
    /// Whether `record` keeps what `step` asks for instead of doing it; else every step is asked for anew.
    virtual bool records() const { return false; }
    virtual std::unique_ptr<RecordedStep> record(std::function<void()> const& /*step*/) { return nullptr; }
};

/// The row for `op`, or null.
inline KernelRow const* find_kernel(KernelTable table, std::string_view op) {
    for (auto const& row : table)
        if (row.op == op) return &row;
    return nullptr;
}

}  // namespace plait
