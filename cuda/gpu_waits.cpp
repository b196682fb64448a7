// Which instructions a stream is at, and waits for it.

#include "cuda/gpu_machine.hpp"
#include "cuda/launch.hpp"

#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace plait::cuda {

using Clock = std::chrono::steady_clock;

void Gpu::begin(int number, std::string_view name) {
    number_ = number;
    largest_ = std::max(largest_, number);
    if (recording_) return;
    first_asked_ = std::min(first_asked_, number);
    last_asked_ = std::max(last_asked_, number);
    end_range();
    range_name_ = name;
    nvtxRangePushA(range_name_.c_str());
    range_ = true;
}

void Gpu::end_range() {
    if (range_) nvtxRangePop();
    range_ = false;
}

// A mark is a kernel in the stream's own order, as a branch of the graph beside it would cost the stream no
// less (it has to tell the branch) and could come late. One for many instructions keeps it cheap.
void Gpu::mark(GpuQueue& queue) {
    check(!recording_ || queue.joined, "a stream has not joined the recording that it is used in");
    if (number_ < 0 || !queue.marks) return;
    auto const first = number_ - number_ % marked(recording_);
    if (queue.group == first) return;
    queue.group = first;  // before the launch, which marks too
    launch(queue, Mark{device_marks_ + queue.number, static_cast<std::uint32_t>(first + 1)});
}

void Gpu::unmark(GpuQueue& queue) {
    if (queue.number == kernels || queue.group < 0) return;
    launch(queue, Mark{device_marks_ + queue.number, 0});
    queue.group = -1;
}

void Gpu::forget_marks() {
    number_ = -1;
    for (auto& s : streams_) s.group = -1;
}

std::pair<int, int> Gpu::under_way() const {
    int first = std::numeric_limits<int>::max(), last = -1;
    for (std::size_t s = 0; s < streams_.size(); ++s)
        if (auto mark = static_cast<int>(marks_[s]); mark > 0) {
            first = std::min(first, mark - 1);
            last = std::max(last, mark - 1 + marked(replayed_) - 1);
        }
    if (!replayed_ && last_asked_ >= 0) {
        // Of what was asked for one by one the ends are known, also before the first mark.
        first = last < 0 ? first_asked_ : std::max(first, first_asked_);
        last = last < 0 ? last_asked_ : std::min(last, last_asked_);
    }
    last = std::min(last, largest_);
    return first <= last ? std::pair{first, last} : std::pair{-1, -1};
}

void Gpu::lose(cudaError_t error) {
    static_cast<void>(cudaGetLastError());
    recording_ = false;
    auto [first, last] = under_way();
    lost_.emplace(
        fmt::format("{}: {} ({})", device_.name, cudaGetErrorString(error), cudaGetErrorName(error)), first,
        last);
    throw *lost_;
}

int Gpu::add_watcher(std::function<void(double)> watcher) {
    watchers_.emplace(next_watcher_, std::move(watcher));
    return next_watcher_++;
}

void Gpu::wait_while(std::function<cudaError_t()> const& asked) {
    using namespace std::chrono_literals;
    auto const start = Clock::now();
    auto look = start + 5ms;
    bool first = true;
    for (;;) {
        auto error = asked();
        if (error == cudaSuccess) break;
        if (error != cudaErrorNotReady) lose(error);
        auto now = Clock::now();
        if (now >= look) {
            look = now + 5ms;
            auto const seconds = first ? 0 : std::chrono::duration<double>(now - start).count();
            first = false;
            auto watchers = watchers_;  // one may take itself away
            for (auto const& [number, watcher] : watchers)
                if (watchers_.contains(number)) watcher(seconds);
        }
        if (now - start > 200us) std::this_thread::sleep_for(20us);
    }
    static_cast<void>(cudaGetLastError());  // that it was not ready once
}

void Gpu::settle() noexcept {
    if (lost_ || recording_) return;
    constexpr std::chrono::seconds longest(10);
    auto const start = Clock::now();
    try {
        for (auto const& s : streams_)
            wait_while(
                [&] { return Clock::now() - start > longest ? cudaSuccess : cudaStreamQuery(s.stream); });
    } catch (...) {
        // The next call tells of a lost device, and who watches has told of the rest.
    }
}

void Gpu::finish(Event event) {
    outside_recording("a wait for the device");
    use();
    if (auto waited = find(event)) wait_while([&] { return cudaEventQuery(waited); });
    reuse_events();
}

bool Gpu::reached(Event event) {
    if (recording_) return true;  // CUDA forbids to ask
    use();
    auto asked = find(event);
    if (!asked) return true;
    auto error = cudaEventQuery(asked);
    if (error == cudaSuccess) return true;
    if (error != cudaErrorNotReady) lose(error);
    static_cast<void>(cudaGetLastError());
    return false;
}

void Gpu::finish() {
    outside_recording("a wait for the device");
    use();
    end_range();
    auto all_done = [&](GpuQueue const& s) { wait_while([&] { return cudaStreamQuery(s.stream); }); };
    for (std::size_t s = 1; s < streams_.size(); ++s) all_done(streams_[s]);
    auto stream = at(kernels).stream;
    done(faults_->fetch(stream), "words for faults");
    all_done(at(kernels));
    reuse_events();
    forget_marks();
    for (std::size_t s = 0; s < streams_.size(); ++s) marks_[s] = 0;
    first_asked_ = std::numeric_limits<int>::max();
    last_asked_ = -1;
    replayed_ = false;
    faults_->check_fetched(stream);
}

}  // namespace plait::cuda
