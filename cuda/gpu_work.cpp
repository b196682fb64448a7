// What rows put on a stream, and recordings of it.

#include "cuda/gpu_machine.hpp"
#include "cuda/table.hpp"

namespace plait::cuda {

void GpuQueue::launch(int kernel, void const* arguments, std::size_t, std::int64_t blocks) {
    gpu_.use();
    gpu_.mark(*this);
    auto const& compiled = compiled_kernels()[static_cast<std::size_t>(kernel)];
    check(blocks <= std::numeric_limits<int>::max(), "{}: {} blocks are more than a GPU takes at once",
          compiled.name, blocks);
    void* list[] = {const_cast<void*>(arguments)};
    gpu_.done(cudaLaunchKernel(compiled.entry, dim3(static_cast<unsigned>(blocks)),
                               dim3(static_cast<unsigned>(compiled.threads)), list,
                               static_cast<std::size_t>(compiled.dynamic_bytes), stream),
              compiled.name);
}

void GpuQueue::copy(std::byte* to, std::byte const* from, std::int64_t bytes) {
    if (bytes == 0 || to == from) return;
    gpu_.use();
    gpu_.mark(*this);
    gpu_.done(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice, stream),
              "copy");
}

void GpuQueue::fill(std::byte* to, std::uint8_t value, std::int64_t bytes) {
    if (bytes == 0) return;
    gpu_.use();
    gpu_.mark(*this);
    gpu_.done(cudaMemsetAsync(to, value, static_cast<std::size_t>(bytes), stream), "fill");
}

template <class F>
auto GpuQueue::ask(F const& library) {
    try {
        return library();
    } catch (DeviceFault const&) {
        throw;
    } catch (Error const&) {
        if (!gpu_.recording_)
            if (auto error = cudaStreamQuery(stream); loses_device(error)) gpu_.lose(error);
        static_cast<void>(cudaGetLastError());
        throw;
    }
}

bool GpuQueue::multiply(Multiplication const& product) {
    gpu_.use();
    gpu_.mark(*this);
    return ask([&] { return gpu_.products_->multiply(product, *this, stream, gpu_.recording_); });
}

bool GpuQueue::attend([[maybe_unused]] AttentionCall const& call) {
#ifdef PLAIT_HAS_CUDNN
    if (!gpu_.options_.library_attention) return false;
    gpu_.use();
    gpu_.mark(*this);
    return ask([&] { return gpu_.attention_->attend(call, stream, gpu_.recording_); });
#else
    return false;
#endif
}

std::uint32_t* GpuQueue::fault() {
    gpu_.use();
    return ask([&] { return gpu_.faults_->at(gpu_.number_, gpu_.recording_); });
}

void Gpu::begin_recording() {
    outside_recording("a recording begins");
    use();
    end_range();
    for (auto& s : streams_) s.joined = false;
    at(kernels).joined = true;
    forget_marks();
    first_of_recording_ = next_event_;
    // This thread alone is kept from what would spoil it: other ranks and watchers have threads of their own.
    done(cudaStreamBeginCapture(at(kernels).stream, cudaStreamCaptureModeThreadLocal), "a recording");
    recording_ = true;
}

std::unique_ptr<RecordedStep> Gpu::end_recording() {
    check(recording_, "a recording ends that was not begun");
    use();
    cudaError_t error = cudaSuccess;
    auto keep = [&](cudaError_t e) { error = error == cudaSuccess ? e : error; };
    for (auto& s : streams_)
        if (s.joined && &s != &at(kernels)) {
            cudaEvent_t event = nullptr;
            keep(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
            if (!event) continue;
            recording_events_.push_back(event);
            keep(cudaEventRecord(event, s.stream));
            keep(cudaStreamWaitEvent(at(kernels).stream, event, 0));
        }
    cudaGraph_t graph = nullptr;
    keep(cudaStreamEndCapture(at(kernels).stream, &graph));
    recording_ = false;
    forget_marks();
    cudaGraphExec_t recorded = nullptr;
    if (error == cudaSuccess)
        keep(cudaGraphInstantiate(&recorded, graph, cudaGraphInstantiateFlagUseNodePriority));
    if (graph) static_cast<void>(cudaGraphDestroy(graph));
    auto result = recorded ? std::make_unique<Graph>(shared_from_this(), recorded) : nullptr;
    if (error == cudaSuccess) keep(cudaGraphUpload(recorded, at(kernels).stream));
    if (loses_device(error)) lose(error);
    if (error != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        fail("a step could not be recorded as a CUDA graph: {} ({}): run it with --sync, which records none",
             cudaGetErrorString(error), cudaGetErrorName(error));
    }
    return result;
}

void Gpu::replay(cudaGraphExec_t graph) {
    outside_recording("a recorded step runs");
    use();
    end_range();
    forget_marks();
    replayed_ = true;
    done(cudaGraphLaunch(graph, at(kernels).stream), "a recorded step");
}

}  // namespace plait::cuda
