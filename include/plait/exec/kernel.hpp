#pragma once

#include "plait/graph/op.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace plait {

/// A tensor in device memory: dense, row-major, at least 64-byte aligned at the start of its arena slot (a
/// block of a batch may start at any multiple of its element size).
struct Buffer {
    std::byte* data = nullptr;
    Meta meta;
    Placement block;

    template <class T>
    T* as() const {
        return reinterpret_cast<T*>(data);
    }
};

class ThreadPool;  // cpu/thread_pool.hpp
namespace cuda {
class Queue;
}

/// One call of a kernel. Outputs may share memory with inputs only as the op's `aliases` say.
struct KernelCall {
    AnyOp const* op = nullptr;
    std::span<Buffer const> in, out;
    std::byte* workspace = nullptr;  // as many bytes as the row's `workspace` said
    std::uint32_t accumulate = 0;    // bit i: add to output i instead of writing it
    ThreadPool* pool = nullptr;      // CPU only
    int micro = 0;                   // the current micro-batch
    cuda::Queue* queue = nullptr;    // CUDA only

    /// The op's attributes.
    template <Op T>
    T const& attributes() const {
        auto const* attributes = op->as<T>();
        check(attributes != nullptr, "{}: the kernel is of another op of this name", op->name());
        return *attributes;
    }
};

/// One line of a backend's table.
struct KernelRow {
    std::string_view op;  // the op's name
    void (*run)(KernelCall const&);
    /// Bytes of scratch that a call wants: an upper bound, fixed by shapes, attributes and worker count.
    /// Null: none.
    std::int64_t (*workspace)(AnyOp const&, Metas const& in, Metas const& out, int workers) = nullptr;
    std::uint32_t accumulates = 0;  // outputs (bits) that the kernel can add to
    /// Calls of this row that need nothing of one another, in one go. They may all use the first one's
    /// workspace, than which none wants more, and no other. Null: one by one.
    void (*run_many)(std::span<KernelCall const>) = nullptr;
};
using KernelTable = std::span<KernelRow const>;

}  // namespace plait
