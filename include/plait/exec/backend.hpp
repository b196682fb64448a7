#pragma once

#include "plait/exec/kernel.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace plait {

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
    /// Host to device and back; complete when they return.
    virtual void write(std::byte* to, std::span<std::byte const> from) = 0;
    virtual void read(std::span<std::byte> to, std::byte const* from) = 0;

    virtual void call(KernelRow const& row, KernelCall& call) = 0;
};

/// The row for `op`, or null.
inline KernelRow const* find_kernel(KernelTable table, std::string_view op) {
    for (auto const& row : table)
        if (row.op == op) return &row;
    return nullptr;
}

}  // namespace plait
