// Memory, streams and events.

#include "cuda/gpu_machine.hpp"

#include <nvtx3/nvToolsExtCudaRt.h>

#include <algorithm>
#include <cstring>

namespace plait::cuda {

Gpu::Gpu(GpuOptions const& options) : options_(options), device_(take_device(options.device)) {
    check(options_.instructions_per_mark > 0, "instructions_per_mark is {}, at least 1",
          options_.instructions_per_mark);
    void* marks = nullptr;
    auto bytes = most_streams * sizeof(std::uint32_t);
    check_cuda(cudaHostAlloc(&marks, bytes, cudaHostAllocMapped | cudaHostAllocPortable), "host memory");
    std::fill_n(static_cast<std::uint32_t*>(marks), most_streams, 0u);
    marks_ = static_cast<std::uint32_t volatile*>(marks);
    check_cuda(cudaHostGetDevicePointer(reinterpret_cast<void**>(&device_marks_), marks, 0), "host memory");
    products_.emplace(ProductOptions{device_.name, options_.fixed_algorithms, options_.tf32});
#ifdef PLAIT_HAS_CUDNN
    attention_.emplace();
#endif
    faults_.emplace();
    add_stream("kernels", true);
}

Gpu::~Gpu() {
    // What fails here has been told of.
    static_cast<void>(cudaSetDevice(device_.number));
    end_range();
    settle();
#ifdef PLAIT_HAS_CUDNN
    if (lost_) attention_->abandon();
    attention_.reset();
#endif
    products_.reset();
    faults_.reset();
    for (auto const& e : events_) static_cast<void>(cudaEventDestroy(e.event));
    for (auto e : spare_) static_cast<void>(cudaEventDestroy(e));
    for (auto e : recording_events_) static_cast<void>(cudaEventDestroy(e));
    for (auto const& s : streams_) static_cast<void>(cudaStreamDestroy(s.stream));
    static_cast<void>(cudaFreeHost(const_cast<std::uint32_t*>(marks_)));
    static_cast<void>(cudaGetLastError());
}

void Gpu::use() {
    if (lost_) throw *lost_;
    done(cudaSetDevice(device_.number), "the device");  // of this thread
}

void Gpu::done(cudaError_t error, std::string_view what) {
    if (error == cudaSuccess) return;
    if (loses_device(error)) lose(error);
    check_cuda(error, what);
}

std::int64_t Gpu::free_bytes() const {
    if (lost_) throw *lost_;
    check_cuda(cudaSetDevice(device_.number), "the device");
    std::size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "free memory");
    return static_cast<std::int64_t>(free);
}

std::function<void()> Gpu::settler() {
    return [weak = weak_from_this()] {
        if (auto gpu = weak.lock()) gpu->settle();
    };
}

std::shared_ptr<std::byte[]> Gpu::allocate(std::int64_t bytes) {
    outside_recording("memory is taken");
    use();
    auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
    void* memory = nullptr;
    auto error = cudaMalloc(&memory, size);
    if (error == cudaErrorMemoryAllocation) {
        static_cast<void>(cudaGetLastError());
        fail(
            "{}: no {} bytes of memory in one piece, {} are free: use a smaller batch, more micro-batches or "
            "recomputation",
            device_.name, bytes, free_bytes());
    }
    done(error, "memory");
    std::shared_ptr<std::byte[]> held(static_cast<std::byte*>(memory), [wait = settler()](std::byte* p) {
        wait();
        static_cast<void>(cudaFree(p));
    });
    auto stream = at(kernels).stream;
    done(cudaMemsetAsync(memory, 0, size, stream), "memory");
    wait_while([&] { return cudaStreamQuery(stream); });  // streams do not wait for one another
    return held;
}

std::shared_ptr<std::byte[]> Gpu::allocate_host(std::int64_t bytes) {
    outside_recording("host memory is taken");
    use();
    void* memory = nullptr;
    auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
    done(cudaHostAlloc(&memory, size, cudaHostAllocPortable | cudaHostAllocMapped),
         fmt::format("{} bytes of pinned host memory", bytes));
    std::memset(memory, 0, size);
    return {static_cast<std::byte*>(memory), [wait = settler()](std::byte* p) {
                wait();
                static_cast<void>(cudaFreeHost(p));
            }};
}

bool Gpu::is_device(void const* address) const {
    cudaPointerAttributes attributes{};
    if (cudaPointerGetAttributes(&attributes, address) != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        return false;
    }
    return attributes.type == cudaMemoryTypeDevice;
}

Machine::Stream Gpu::add_stream(std::string name, bool marks) {
    outside_recording("a stream is added");
    use();
    check(static_cast<int>(streams_.size()) < most_streams, "{} streams are the most that there can be",
          most_streams);
    // Added streams copy and communicate: what they have is to go before kernels that fill the device.
    auto priority = streams_.empty() ? device_.priority : device_.high_priority;
    cudaStream_t stream = nullptr;
    done(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority), "a stream");
    nvtxNameCudaStreamA(stream, name.c_str());
    auto number = static_cast<Stream>(streams_.size());
    streams_.emplace_back(*this, number, stream, marks);
    return number;
}

void Gpu::copy_in(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) {
    if (bytes == 0) return;
    use();
    mark(at(stream));
    done(
        cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, at(stream).stream),
        "copy to the device");
}

void Gpu::copy_out(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) {
    if (bytes == 0) return;
    use();
    mark(at(stream));
    done(
        cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, at(stream).stream),
        "copy from the device");
}

void* Gpu::native(Stream stream) {
    use();
    mark(at(stream));
    return at(stream).stream;
}

cudaEvent_t Gpu::new_event() {
    cudaEvent_t event = nullptr;
    done(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event");
    return event;
}

cudaEvent_t Gpu::find(Event event) const {
    auto it = std::lower_bound(events_.begin(), events_.end(), event,
                               [](Recorded const& e, Event number) { return e.number < number; });
    return it != events_.end() && it->number == event ? it->event : nullptr;
}

void Gpu::reuse_events() {
    while (!events_.empty() && cudaEventQuery(events_.front().event) == cudaSuccess) {
        spare_.push_back(events_.front().event);
        events_.pop_front();
    }
    static_cast<void>(cudaGetLastError());
}

Machine::Event Gpu::record(Stream stream) {
    use();
    auto& queue = at(stream);
    cudaEvent_t event = nullptr;
    if (recording_) {
        check(queue.joined, "stream {} has not joined the recording that it is used in", stream);
        auto index = static_cast<std::size_t>(next_event_ - first_of_recording_);
        if (index == recording_events_.size()) recording_events_.push_back(new_event());
        event = recording_events_[index];
    } else {
        if (spare_.empty()) reuse_events();
        if (spare_.empty()) {
            event = new_event();
        } else {
            event = spare_.back();
            spare_.pop_back();
        }
        events_.push_back({next_event_, event});
    }
    done(cudaEventRecord(event, queue.stream), "an event");
    unmark(queue);
    return next_event_++;
}

void Gpu::wait(Stream stream, Event event) {
    use();
    auto& queue = at(stream);
    cudaEvent_t waited = nullptr;
    if (recording_) {
        check(event >= first_of_recording_, "a recording waits for an event from outside");
        waited = recording_events_.at(static_cast<std::size_t>(event - first_of_recording_));
        queue.joined = true;
    } else {
        waited = find(event);
    }
    if (waited) done(cudaStreamWaitEvent(queue.stream, waited, 0), "a wait for an event");
}

bool available() { return true; }

std::shared_ptr<Machine> open_gpu(GpuOptions options) {
    before_cuda();
    return std::make_shared<Gpu>(options);
}

}  // namespace plait::cuda
