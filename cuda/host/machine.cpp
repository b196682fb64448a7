#include "cuda/host/machine.hpp"

#include "cuda/device/math.cuh"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

namespace plait::cuda {

/// The tasks that a recording kept, put on their streams again by every replay.
class HostMachine::HostRecording final : public RecordedStep {
  public:
    HostRecording(std::shared_ptr<HostMachine> machine, std::vector<Kept> kept)
        : machine_(std::move(machine)), kept_(std::move(kept)) {}

    void replay() override {
        // As a graph begins after what its stream did before.
        machine_->finish();
        for (auto const& k : kept_)
            if (k.task.records >= 0) machine_->reached_[static_cast<std::size_t>(k.task.records)] = false;
        for (auto const& k : kept_) machine_->at(k.stream).tasks.push_back(k.task);
    }

  private:
    std::shared_ptr<HostMachine> machine_;
    std::vector<Kept> kept_;
};

void HostMachine::outside_recording(char const* what) const {
    check(!recording_, "{} inside a recording", what);
}

std::int64_t HostMachine::free_bytes() const {
    std::lock_guard lock(memory_mutex_);
    return options_.bytes - taken_;
}

std::shared_ptr<std::byte[]> HostMachine::allocate(std::int64_t bytes) {
    outside_recording("memory is taken");
    auto size = std::max<std::int64_t>(bytes, 1);
    auto* p = new (std::align_val_t{256}) std::byte[static_cast<std::size_t>(size)]();
    std::lock_guard lock(memory_mutex_);
    memory_[p] = size;
    taken_ += size;
    return {p, [weak = weak_from_this(), size](std::byte* q) {
                if (auto machine = weak.lock()) {
                    try {
                        machine->finish();  // as cudaFree does
                    } catch (...) {}
                    std::lock_guard lock(machine->memory_mutex_);
                    machine->memory_.erase(q);
                    machine->taken_ -= size;
                }
                ::operator delete[](q, std::align_val_t{256});
            }};
}

std::shared_ptr<std::byte[]> HostMachine::allocate_host(std::int64_t bytes) {
    outside_recording("host memory is taken");
    return std::make_shared<std::byte[]>(static_cast<std::size_t>(bytes));
}

bool HostMachine::is_device(void const* address) const {
    std::lock_guard lock(memory_mutex_);
    auto const* p = static_cast<std::byte const*>(address);
    auto it = memory_.upper_bound(p);
    return it != memory_.begin() && p < std::prev(it)->first + std::prev(it)->second;
}

Machine::Stream HostMachine::add_stream(std::string, bool) {
    outside_recording("a stream is added");
    auto number = static_cast<Stream>(streams_.size());
    streams_.emplace_back(*this, number);
    return number;
}

void HostMachine::put(Stream stream, Task task) {
    auto& queue = at(stream);
    task.number = number_;
    if (!recording_) return queue.tasks.push_back(std::move(task));
    bool joins = task.waits >= 0 && of_recording_.contains(task.waits);
    queue.joined = queue.joined || joins;
    check(queue.joined, "stream {} has not joined the recording that it is used in", stream);
    check(task.waits < 0 || joins, "a recording waits for an event from outside");
    if (task.records >= 0) of_recording_.insert(task.records);
    kept_.push_back({stream, std::move(task)});
}

void HostMachine::put(Stream stream, std::function<void()> f) {
    post(stream, [f = std::move(f)] {
        f();
        return [] { return true; };
    });
}

void HostMachine::post(Stream stream, std::function<Going()> start) {
    put(stream, Task{.start = std::move(start)});
}

void HostMachine::copy_in(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) {
    put(stream, [=] { std::memcpy(to, from, static_cast<std::size_t>(bytes)); });
}

void HostMachine::copy_out(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) {
    if (bytes != 4) return copy_in(stream, to, from, bytes);
    // A word, which other threads may look at meanwhile.
    put(stream, [=] {
        std::uint32_t word = 0;
        std::memcpy(&word, from, sizeof word);
        std::atomic_ref(*reinterpret_cast<std::uint32_t*>(to)).store(word, std::memory_order_relaxed);
    });
}

Machine::Event HostMachine::record(Stream stream) {
    auto event = static_cast<Event>(reached_.size());
    reached_.push_back(false);
    put(stream, Task{.start = {}, .records = event});
    return event;
}

void HostMachine::wait(Stream stream, Event event) { put(stream, Task{.start = {}, .waits = event}); }

void HostMachine::begin(int number, std::string_view) { number_ = number; }

void HostMachine::begin_recording() {
    outside_recording("a recording begins");
    finish();
    recording_ = true;
    kept_.clear();
    of_recording_.clear();
    for (auto& s : streams_) s.joined = false;
    at(kernels).joined = true;
}

std::unique_ptr<RecordedStep> HostMachine::end_recording() {
    recording_ = false;
    return std::make_unique<HostRecording>(shared_from_this(), std::move(kept_));
}

std::uint32_t* HostMachine::fault_word() { return &faults_[number_]; }

bool HostMachine::step(HostQueue& queue, bool& pending) {
    auto& task = queue.tasks.front();
    if (task.waits >= 0 && !reached_[static_cast<std::size_t>(task.waits)]) return false;
    if (task.records >= 0) reached_[static_cast<std::size_t>(task.records)] = true;
    if (task.start) {
        try {
            if (!task.going) task.going = task.start();
            if (!task.going()) {
                pending = true;
                return false;
            }
        } catch (KernelFault const& fault) {
            throw DeviceFault(fault.what(), task.number, task.number);
        }
    }
    queue.tasks.pop_front();
    return true;
}

int HostMachine::add_watcher(std::function<void(double waited_seconds)> watcher) {
    watchers_[++next_watcher_] = std::move(watcher);
    return next_watcher_;
}

void HostMachine::run(std::function<bool()> const& ended) {
    auto const begin = std::chrono::steady_clock::now();
    bool first = true;
    while (!ended()) {
        bool pending = false, left = false;
        if (sweep(pending, left)) continue;
        if (!left) return;
        check(pending, "streams wait for events that nobody records");
        std::chrono::duration<double> const waited = std::chrono::steady_clock::now() - begin;
        for (auto const& [number, watcher] : watchers_) watcher(first ? 0 : waited.count());
        first = false;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
}

bool HostMachine::sweep(bool& pending, bool& left) {
    bool moved = false;
    auto count = static_cast<int>(streams_.size());
    for (int k = 0; k < count && !moved; ++k) {
        auto& queue = at(options_.order == Order::forward ? k : count - 1 - k);
        while (!queue.tasks.empty() && step(queue, pending)) moved = true;
        left = left || !queue.tasks.empty();
    }
    return moved;
}

void HostMachine::go_on() {
    bool pending = false, left = false;
    while (sweep(pending, left)) {}
}

void HostMachine::drop_all() {
    for (auto& s : streams_) s.tasks.clear();
}

void HostMachine::finish(Event event) {
    outside_recording("a wait for the device");
    try {
        run([&] { return static_cast<bool>(reached_[static_cast<std::size_t>(event)]); });
    } catch (...) {
        drop_all();
        throw;
    }
}

bool HostMachine::reached(Event event) {
    if (recording_) return true;
    go_on();
    return reached_[static_cast<std::size_t>(event)];
}

void HostMachine::finish() {
    outside_recording("a wait for the device");
    try {
        run([] { return false; });
    } catch (...) {
        drop_all();
        throw;
    }
    for (auto& [number, word] : faults_)
        if (auto element = std::exchange(word, 0u))
            throw DeviceFault(
                fmt::format("a token or class lies outside its table, at element {}", element - 1), number,
                number);
}

void HostMachine::HostQueue::launch(int kernel, void const* arguments, std::size_t bytes,
                                    std::int64_t blocks) {
    // Arguments are aligned as operator new does.
    std::shared_ptr<std::byte[]> kept(new std::byte[bytes]);
    std::memcpy(kept.get(), arguments, bytes);
    machine_.put(stream_, [this, kernel, blocks, kept] {
        ++machine_.launches_;
        run_on_host(kernel, kept.get(), blocks, machine_.options_.order);
    });
}

void HostMachine::HostQueue::copy(std::byte* to, std::byte const* from, std::int64_t bytes) {
    check(to + bytes <= from || from + bytes <= to || to == from, "a copy overlaps itself");
    machine_.put(stream_, [=] { std::memmove(to, from, static_cast<std::size_t>(bytes)); });
}

void HostMachine::HostQueue::fill(std::byte* to, std::uint8_t value, std::int64_t bytes) {
    machine_.put(stream_, [=] { std::memset(to, value, static_cast<std::size_t>(bytes)); });
}

namespace {

float number_at(Matrix const& m, std::int64_t i) {
    if (m.dtype == DType::bf16) return static_cast<float>(reinterpret_cast<plait::Bf16 const*>(m.data)[i]);
    return reinterpret_cast<float const*>(m.data)[i];
}
void set_at(Matrix const& m, std::int64_t i, float x) {
    if (m.dtype == DType::bf16) reinterpret_cast<plait::Bf16*>(m.data)[i] = plait::Bf16(x);
    else reinterpret_cast<float*>(m.data)[i] = x;
}

/// The dense rows of matrix `batch`, [rows, columns].
std::vector<float> dense(Matrix const& m, std::int64_t batch, std::int64_t rows, std::int64_t columns) {
    std::vector<float> x(static_cast<std::size_t>(rows * columns));
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < columns; ++c)
            x[static_cast<std::size_t>(r * columns + c)] =
                number_at(m, batch * m.batch_stride + (m.transposed ? c * m.stride + r : r * m.stride + c));
    return x;
}

void multiply_on_host(Multiplication const& p) {
    Matrix bias{.data = const_cast<std::byte*>(p.bias), .dtype = p.c.dtype};
    Matrix before = p.c;
    before.data = p.before_gelu;
    Matrix input = p.c;
    input.data = const_cast<std::byte*>(p.gelu_input);
    for (std::int64_t one = 0; one < p.batch; ++one) {
        auto a = dense(p.a, one, p.m, p.k), b = dense(p.b, one, p.k, p.n);
        std::vector<float> row(static_cast<std::size_t>(p.n));
        for (std::int64_t i = 0; i < p.m; ++i) {
            std::fill(row.begin(), row.end(), 0.0f);
            float row_sum = 0;
            for (std::int64_t l = 0; l < p.k; ++l) {
                float x = a[static_cast<std::size_t>(i * p.k + l)];
                row_sum += x;
                for (std::int64_t j = 0; j < p.n; ++j)
                    row[static_cast<std::size_t>(j)] += x * b[static_cast<std::size_t>(l * p.n + j)];
            }
            if (p.row_sums) std::memcpy(p.row_sums + bytes_of(f32, i), &row_sum, sizeof row_sum);
            for (std::int64_t j = 0; j < p.n; ++j) {
                auto at = one * p.c.batch_stride + i * p.c.stride + j;
                float y = row[static_cast<std::size_t>(j)];
                if (p.accumulate) y += number_at(p.c, at);
                if (p.bias) y += number_at(bias, j);
                if (p.before_gelu) {
                    set_at(before, at, y);
                    y = gelu(number_at(before, at));
                }
                if (p.gelu_input) y *= gelu_derivative(number_at(input, at));
                set_at(p.c, at, y);
            }
        }
    }
}

}  // namespace

bool HostMachine::HostQueue::multiply(Multiplication const& product) {
    // A library that knows some shapes, so that both ways run.
    if (product.row_sums && (machine_.options_.fixed_algorithms || product.m % 2 != 0)) return false;
    check(product.workspace_bytes >= product_workspace_bytes || product.workspace_bytes == 0,
          "a product comes with less workspace than it may take");
    check(!product.gelu_input || product.gelu_input != product.c.data,
          "a product is written over what GELU's slope is taken of");
    check(product.a.scaling == Scaling::none && product.b.scaling == Scaling::none,
          "a product on the host has no factors for blocks of elements");
    check(!product.row_sums || product.batch == 1, "the sums of rows of a batch of products");
    ++machine_.products_;
    machine_.put(stream_, [product] { multiply_on_host(product); });
    return true;
}

}  // namespace plait::cuda
