#pragma once

#include "cuda/fault_words.hpp"
#include "cuda/gpu_device.hpp"
#include "cuda/machine.hpp"
#include "cuda/products.hpp"
#include "cuda/runtime.hpp"
#include "plait/cuda/device.hpp"
#ifdef PLAIT_HAS_CUDNN
#include "cuda/attention_cudnn.hpp"
#endif

#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace plait::cuda {

class Gpu;

/// A stream, and what rows put on it.
class GpuQueue final : public Queue {
  public:
    GpuQueue(Gpu& gpu, int n, cudaStream_t s, bool m) : number(n), stream(s), marks(m), gpu_(gpu) {}

    void launch(int kernel, void const* arguments, std::size_t bytes, std::int64_t blocks) override;
    void copy(std::byte* to, std::byte const* from, std::int64_t bytes) override;
    void fill(std::byte* to, std::uint8_t value, std::int64_t bytes) override;
    bool multiply(Multiplication const& product) override;
    bool attend(AttentionCall const& call) override;
    std::uint32_t* fault() override;

    int const number;
    cudaStream_t const stream;
    bool const marks;     // whether it tells where it is
    bool joined = false;  // the recording
    int group = -1;       // the first of the instructions that the stream's mark tells of

  private:
    /// Tells a failure of a library that comes from the device being lost from others.
    template <class F>
    auto ask(F const& library);

    Gpu& gpu_;
};

class Gpu final : public Machine, public std::enable_shared_from_this<Gpu> {
  public:
    explicit Gpu(GpuOptions const& options);
    ~Gpu() override;

    std::string description() const override { return device_.name; }
    std::int64_t free_bytes() const override;
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override;
    std::shared_ptr<std::byte[]> allocate_host(std::int64_t bytes) override;
    bool is_device(void const* address) const override;

    Stream add_stream(std::string name, bool marks) override;
    Queue& queue(Stream stream) override { return at(stream); }
    void copy_in(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) override;
    void copy_out(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) override;
    Event record(Stream stream) override;
    void wait(Stream stream, Event event) override;
    void finish(Event event) override;
    bool reached(Event event) override;
    void begin(int number, std::string_view name) override;
    void begin_recording() override;
    bool recording() const override { return recording_; }
    std::unique_ptr<RecordedStep> end_recording() override;
    void finish() override;
    int add_watcher(std::function<void(double)> watcher) override;
    void remove_watcher(int number) override { watchers_.erase(number); }
    void* native(Stream stream) override;
    std::pair<int, int> under_way() const override;

  private:
    friend GpuQueue;

    /// The graph that a recording became.
    class Graph final : public RecordedStep {
      public:
        Graph(std::shared_ptr<Gpu> gpu, cudaGraphExec_t graph) : gpu_(std::move(gpu)), graph_(graph) {}
        ~Graph() override {
            gpu_->settle();
            static_cast<void>(cudaGraphExecDestroy(graph_));
        }
        void replay() override { gpu_->replay(graph_); }

      private:
        std::shared_ptr<Gpu> gpu_;
        cudaGraphExec_t graph_;
    };
    struct Recorded {
        Event number;
        cudaEvent_t event;
    };

    GpuQueue& at(Stream stream) { return streams_.at(static_cast<std::size_t>(stream)); }
    cudaEvent_t new_event();
    /// That of a number, or null where it was reached.
    cudaEvent_t find(Event event) const;
    /// Takes back the events that were reached, from the oldest on.
    void reuse_events();

    /// Before anything is asked of the device: throws what lost it.
    void use();
    void outside_recording(char const* what) const { check(!recording_, "{} inside a recording", what); }
    /// Before work is put on a stream: notes which instruction it belongs to.
    void mark(GpuQueue& queue);
    /// After a stream's work that others wait for.
    void unmark(GpuQueue& queue);
    void forget_marks();
    /// Of the instructions that a mark tells of. Marks cost a recorded step more than one that the host asks
    /// for piece by piece, which waits for the host.
    int marked(bool recorded) const { return (recorded ? 4 : 1) * options_.instructions_per_mark; }
    /// Throws unless it worked: DeviceFault where the device is lost.
    void done(cudaError_t error, std::string_view what);
    [[noreturn]] void lose(cudaError_t error);
    void wait_while(std::function<cudaError_t()> const& asked);
    void replay(cudaGraphExec_t graph);
    /// Waits for what runs, whatever comes of it, and not for ever.
    void settle() noexcept;
    /// The same, if this is still there: before memory goes, as CUDA waits then too, but where nobody
    /// watches.
    std::function<void()> settler();
    void end_range();

    GpuOptions options_;
    GpuDevice device_;
    static constexpr int most_streams = 64;
    std::deque<GpuQueue> streams_;
    std::optional<CublasProducts> products_;
#ifdef PLAIT_HAS_CUDNN
    std::optional<CudnnAttention> attention_;
#endif
    std::optional<FaultWords> faults_;

    std::deque<Recorded> events_;  // that may not be reached yet, by number
    std::vector<cudaEvent_t> spare_;
    Event next_event_ = 0;

    bool recording_ = false;
    std::vector<cudaEvent_t> recording_events_;
    Event first_of_recording_ = 0;

    /// By stream, in memory of the host that the device writes to: 1 + the first instruction of the group
    /// that it is at, or 0.
    std::uint32_t volatile* marks_ = nullptr;
    std::uint32_t* device_marks_ = nullptr;
    int number_ = -1, largest_ = -1;
    int first_asked_ = std::numeric_limits<int>::max(), last_asked_ = -1;  // since the last finish
    bool replayed_ = false;                                                // since the last finish
    bool range_ = false;
    std::string range_name_;

    std::map<int, std::function<void(double)>> watchers_;
    int next_watcher_ = 0;
    std::optional<DeviceFault> lost_;
};

}  // namespace plait::cuda
