#pragma once

#include "cuda/queue.hpp"
#include "plait/core/check.hpp"
#include "plait/exec/backend.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace plait::cuda {

/// A GPU, as the backend needs it. There are two: that of the CUDA runtime (gpu.cpp), and one that runs the
/// same kernels on the host (host/machine.hpp), with which tests run whole programs.
///
/// Streams are numbered; each does its work in order, and none waits for another but through events. While a
/// recording is made nothing is done: what is asked for is kept, and every replay does all of it.
class Machine {
  public:
    using Stream = int;
    /// A place in a stream's order. Those of a recording serve in it alone.
    using Event = int;
    static constexpr Stream kernels = 0;  // where the calls of ops go

    virtual ~Machine() = default;

    /// "NVIDIA H100 80GB HBM3", for people.
    virtual std::string description() const = 0;
    virtual std::int64_t free_bytes() const = 0;
    /// Device memory, 256-byte aligned and zeroed.
    virtual std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) = 0;
    /// Host memory that copies reach without the host's help.
    virtual std::shared_ptr<std::byte[]> allocate_host(std::int64_t bytes) = 0;
    /// Whether this is an address of device memory.
    virtual bool is_device(void const* address) const = 0;

    /// Without `marks` a fault does not ask how far the stream has come: for work that others tell of, which
    /// is spared the marks.
    virtual Stream add_stream(std::string name, bool marks = true) = 0;
    virtual Queue& queue(Stream stream) = 0;
    /// Copies between memory of allocate and allocate_host.
    virtual void copy_in(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) = 0;
    virtual void copy_out(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) = 0;
    virtual Event record(Stream stream) = 0;
    virtual void wait(Stream stream, Event event) = 0;
    /// Waits here, for an event that is of no recording. Throws DeviceFault.
    virtual void finish(Event event) = 0;
    /// Whether a wait for an event would return at once, so far as can be told: true inside a recording, in
    /// which nothing is under way. Throws DeviceFault.
    virtual bool reached(Event event) = 0;

    /// What is asked for from now on belongs to instruction `number`, of the op `name`: a fault tells it.
    virtual void begin(int number, std::string_view name) = 0;

    virtual void begin_recording() = 0;
    virtual bool recording() const = 0;
    /// Streams that joined the recording are joined to `kernels` again.
    virtual std::unique_ptr<RecordedStep> end_recording() = 0;

    /// Returns when all streams have done what was asked for. Throws DeviceFault; also for a word of
    /// Queue::fault that was raised, which the other `finish` does not look at.
    virtual void finish() = 0;

    /// Is called every few milliseconds of a wait in `finish`, by the thread that waits, with the seconds
    /// that it has waited: 0 the first time in each wait, so that it knows one from the next. What it throws
    /// ends the wait. A machine that never waits for others calls none.
    virtual int add_watcher(std::function<void(double waited_seconds)>) { return 0; }
    virtual void remove_watcher(int) {}

    /// The first and the last instruction that may have begun and not ended, as far as the device has told:
    /// what to name where it hangs. Negative where that is not known. May be asked by a watcher.
    virtual std::pair<int, int> under_way() const { return {-1, -1}; }

    /// The stream as the library of this machine knows it, a cudaStream_t, for work that another library puts
    /// on it at once. Null where there is no such library.
    virtual void* native(Stream) { return nullptr; }
};

}  // namespace plait::cuda
