#pragma once

#include "cuda/device/host_block.hpp"
#include "cuda/machine.hpp"

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace plait::cuda {

struct HostOptions {
    /// In which order blocks and threads of a kernel run, and which of several streams that could go on does:
    /// the first or the last one. What depends on it has a race, or lacks an event.
    Order order = Order::forward;
    std::int64_t bytes = std::int64_t{4} << 30;  // of the device
    /// As a GPU with fixed algorithms, whose products make no sums of rows; else some do, by their shape.
    bool fixed_algorithms = false;
};

/// A machine that runs the kernels of the table on the host, when someone waits for them and not before. What
/// a GPU's runtime forbids is an error: to wait or take memory inside a recording, to use a stream in one
/// that has not joined it.
class HostMachine final : public Machine, public std::enable_shared_from_this<HostMachine> {
  public:
    explicit HostMachine(HostOptions options = {}) : options_(options) { streams_.emplace_back(*this, 0); }

    std::string description() const override { return "the host, in place of a GPU"; }
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
    int add_watcher(std::function<void(double waited_seconds)> watcher) override;
    void remove_watcher(int number) override { watchers_.erase(number); }

    /// A call on its way: true when it is done.
    using Going = std::function<bool()>;
    /// Puts on a stream what `start` begins; the stream goes on when it is done.
    void post(Stream stream, std::function<Going()> start);

    /// Does what can be done without waiting, as a GPU would meanwhile.
    void go_on();

    /// Products that were asked for; those of a batch are one.
    std::int64_t products() const { return products_; }
    std::int64_t launches() const { return launches_; }

  private:
    struct Task {
        std::function<Going()> start;
        Event records = -1, waits = -1;
        int number = -1;
        Going going{};
    };
    struct Kept {
        Stream stream;
        Task task;
    };
    class HostRecording;
    class HostQueue final : public Queue {
      public:
        HostQueue(HostMachine& machine, Stream stream) : machine_(machine), stream_(stream) {}
        void launch(int kernel, void const* arguments, std::size_t bytes, std::int64_t blocks) override;
        void copy(std::byte* to, std::byte const* from, std::int64_t bytes) override;
        void fill(std::byte* to, std::uint8_t value, std::int64_t bytes) override;
        bool multiply(Multiplication const& product) override;
        bool attend(AttentionCall const&) override { return false; }
        std::uint32_t* fault() override { return machine_.fault_word(); }

        std::deque<Task> tasks{};
        bool joined = false;  // the recording

      private:
        HostMachine& machine_;
        Stream stream_;
    };

    HostQueue& at(Stream stream) { return streams_.at(static_cast<std::size_t>(stream)); }
    void put(Stream stream, Task task);
    /// Does something once.
    void put(Stream stream, std::function<void()> f);
    void outside_recording(char const* what) const;
    std::uint32_t* fault_word();
    /// Runs streams until `ended` or nothing is left.
    void run(std::function<bool()> const& ended);
    /// Runs the first stream that can go on; whether one could. `pending`: a call is on its way, `left`:
    /// there are tasks.
    bool sweep(bool& pending, bool& left);
    /// One task of a stream; whether it ended.
    bool step(HostQueue& queue, bool& pending);
    void drop_all();

    HostOptions options_;
    std::deque<HostQueue> streams_;
    std::vector<bool> reached_;  // by event
    std::set<Event> of_recording_;
    bool recording_ = false;
    std::vector<Kept> kept_;
    int number_ = -1;
    std::map<int, std::uint32_t> faults_;
    std::int64_t launches_ = 0, products_ = 0;
    std::map<int, std::function<void(double)>> watchers_;
    int next_watcher_ = 0;

    mutable std::mutex memory_mutex_;
    std::map<std::byte const*, std::int64_t> memory_;
    std::int64_t taken_ = 0;
};

/// Kernel number `kernel` of the table over arguments of its type.
void run_on_host(int kernel, void const* arguments, std::int64_t blocks, Order order);
char const* kernel_name(int kernel);

}  // namespace plait::cuda
