#pragma once

// block.cuh on the host: blocks run one after the other, the threads of a block as fibers that change only at
// barriers and where a warp meets. What some threads of a block or warp never reach is an error that says who
// waits where. Shared memory starts as rubbish.

#include "cuda/device/block.cuh"
#include "cuda/device/fiber.hpp"

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace plait::cuda {

/// A kernel did on the host what would hang or be undefined on a GPU.
struct KernelFault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The order in which blocks, and threads between two barriers, run. A kernel without races gives the same
/// bits in both.
enum class Order : std::uint8_t { forward, backward };

/// Where in the source a thread waits, and what for.
struct Where {
    char const* file;
    int line;
    char const* call = "";
    Where at(char const* named) const { return {file, line, named}; }
    std::string text() const {
        std::string path = file;
        return std::string(call) + " of " + path.substr(path.rfind('/') + 1) + ":" + std::to_string(line);
    }
    bool operator==(Where const& other) const {
        return line == other.line && std::strcmp(file, other.file) == 0 && std::strcmp(call, other.call) == 0;
    }
};

/// A copy into shared memory that has not arrived: until a thread waits for it there is rubbish.
struct HostCopy {
    std::byte* to;
    std::size_t size;
    std::byte bytes[16];
};

/// The threads of one block, and what each waits for.
class HostThreads {
  public:
    enum class State : std::uint8_t { ready, barrier, warp, ended };
    struct Offer {
        std::uint32_t words[8];
    };
    struct Thread {
        State state = State::ready;
        Where where{};
        unsigned meetings = 0;
        Offer offered[2] = {};                     // what it brings to even and odd meetings of its warp
        std::vector<HostCopy> copies;              // not committed
        std::deque<std::vector<HostCopy>> groups;  // committed, the oldest first
        Fiber* fiber = nullptr;
    };

    HostThreads(char const* kernel, int count, Order order)
        : kernel_(kernel), order_(order), threads_(static_cast<std::size_t>(count)) {
        // Made once for each thread of the host, as it takes the system longer than a kernel.
        static thread_local std::deque<Fiber> fibers;
        if (fibers.size() < threads_.size()) fibers.resize(threads_.size());
        for (std::size_t i = 0; i < threads_.size(); ++i) threads_[i].fiber = &fibers[i];
    }

    Thread& operator[](int i) { return threads_[static_cast<std::size_t>(i)]; }
    int count() const { return static_cast<int>(threads_.size()); }

    /// Runs body(thread) for all threads of a block to their ends.
    template <class F>
    void run(int block, F&& body) {
        block_ = block;
        for (int t = 0; t < count(); ++t) {
            auto& thread = (*this)[t];
            thread.state = State::ready;
            thread.copies.clear(), thread.groups.clear();
            thread.fiber->start([&body, &thread, this, t] {
                body(t);
                if (!thread.copies.empty() || !thread.groups.empty())
                    fail("thread " + std::to_string(t) + " ends with copies that it never waited for");
                thread.state = State::ended;
            });
        }
        int left = count();
        while (left > 0) {
            // A warp goes on as far as it can before another one begins.
            bool moved = false;
            for (int w = 0; w < count(); w += warp_size)
                while (run_warp(order_ == Order::forward ? w : count() - warp_size - w, left)) moved = true;
            release(0, count(), State::barrier);
            if (!moved) fail("deadlock");
        }
    }

    /// Thread t waits until the others of its warp or block are there too.
    void wait(int t, State state, Where where) {
        (*this)[t].state = state;
        (*this)[t].where = where;
        (*this)[t].fiber->pause();
    }

    /// Says which threads are where.
    [[noreturn]] void fail(std::string const& what) {
        static constexpr char const* names[] = {"run", "wait at the ", "wait at the ", "have ended"};
        std::map<std::string, std::pair<int, int>> groups;  // place: threads, the first of them
        for (int t = count() - 1; t >= 0; --t) {
            auto const& thread = (*this)[t];
            auto key = std::string(names[static_cast<int>(thread.state)]);
            if (thread.state == State::barrier || thread.state == State::warp) key += thread.where.text();
            groups[key].first += 1;
            groups[key].second = t;
        }
        auto text = std::string(kernel_) + ": " + what + " in block " + std::to_string(block_);
        char const* comma = ": ";
        for (auto const& [key, who] : groups) {
            text += comma + std::to_string(who.first) + " threads from " + std::to_string(who.second) +
                    " on " + key;
            comma = ", ";
        }
        throw KernelFault(text);
    }

  private:
    /// Lets the threads from `first` on run until each waits or has ended; false where none can.
    bool run_warp(int first, int& left) {
        bool moved = false;
        for (int k = 0; k < warp_size; ++k) {
            auto& thread = (*this)[first + (order_ == Order::forward ? k : warp_size - 1 - k)];
            if (thread.state != State::ready) continue;
            thread.fiber->resume();
            left -= thread.state == State::ended;
            moved = true;
        }
        release(first, warp_size, State::warp);
        return moved;
    }

    /// Lets threads [begin, begin + n) go on if all of them wait at one place.
    void release(int begin, int n, State state) {
        for (int t = begin; t < begin + n; ++t)
            if ((*this)[t].state != state || !((*this)[t].where == (*this)[begin].where)) return;
        for (int t = begin; t < begin + n; ++t) (*this)[t].state = State::ready;
    }

    char const* kernel_;
    Order order_;
    int block_ = 0;
    std::vector<Thread> threads_;
};

/// The block that a thread is in.
class Block {
  public:
    Block(HostThreads& threads, int thread, int index, int blocks)
        : threads_(&threads), thread_(thread), index_(index), blocks_(blocks) {}

    int thread() const { return thread_; }
    int thread_anew() const { return thread_; }
    int index() const { return index_; }
    int blocks() const { return blocks_; }

    void barrier(Where where = {__builtin_FILE(), __builtin_LINE()}) const {
        threads_->wait(thread_, HostThreads::State::barrier, where.at("barrier"));
    }

    /// Offers a value to the warp and waits for all lanes of it; what comes back gives that of any lane,
    /// until the thread meets its warp again.
    template <class T>
    auto meet(T const& value, Where where) const {
        static_assert(sizeof(T) <= sizeof(HostThreads::Offer) && std::is_trivially_copyable_v<T>);
        auto& own = (*threads_)[thread_];
        // The next meeting may begin before all have read this one, the one after it not.
        auto at = own.meetings++ % 2;
        std::memcpy(&own.offered[at], &value, sizeof(T));
        threads_->wait(thread_, HostThreads::State::warp, where);
        return [threads = threads_, first = thread_ / warp_size * warp_size, at](int lane) {
            T other;
            std::memcpy(&other, &(*threads)[first + lane].offered[at], sizeof(T));
            return other;
        };
    }

    template <class T>
    T shuffle(T value, int lane, Where where = {__builtin_FILE(), __builtin_LINE()}) const {
        if (lane < 0 || lane >= warp_size) threads_->fail("shuffle with lane " + std::to_string(lane));
        return meet(value, where.at("shuffle"))(lane);
    }
    template <class T>
    T shuffle_xor(T value, int mask, Where where = {__builtin_FILE(), __builtin_LINE()}) const {
        return shuffle(value, thread_ % warp_size ^ mask, where);
    }

    bool any(bool here, Where where = {__builtin_FILE(), __builtin_LINE()}) const {
        auto of = meet(here, where.at("vote"));
        for (int lane = 0; lane < warp_size; ++lane)
            if (of(lane)) return true;
        return false;
    }

    HostThreads::Thread& of_host() const { return (*threads_)[thread_]; }

    void atomic_max(std::uint32_t* to, std::uint32_t value) const { *to = *to < value ? value : *to; }
    void atomic_add(std::uint32_t* to, std::uint32_t value) const { *to += value; }
    void atomic_add(std::int64_t* to, std::int64_t value) const {
        *to = static_cast<std::int64_t>(static_cast<std::uint64_t>(*to) + static_cast<std::uint64_t>(value));
    }

  private:
    HostThreads* threads_;
    int thread_, index_, blocks_;
};

/// The shared memory of the block that runs.
inline thread_local std::pair<std::byte const*, std::size_t> shared_memory;

/// The accesses below are of global memory, and a GPU would take an address of shared memory for one of it.
inline void check_words(void const* p, std::size_t bytes, char const* what) {
    if (reinterpret_cast<std::uintptr_t>(p) % bytes)
        throw KernelFault(std::string(what) + " of words is not aligned");
    auto const* at = static_cast<std::byte const*>(p);
    if (!std::less<>()(at, shared_memory.first) &&
        std::less<>()(at, shared_memory.first + shared_memory.second))
        throw KernelFault(std::string(what) + " of words is of shared memory");
}

template <int n>
Words<n> load_words(void const* from) {
    check_words(from, 4 * n, "a load");
    Words<n> w;
    std::memcpy(&w, from, sizeof w);
    return w;
}
template <int n>
void store_words(void* to, Words<n> const& w) {
    check_words(to, 4 * n, "a store");
    std::memcpy(to, &w, sizeof w);
}

/// Runs `blocks` blocks of the kernel. Throws KernelFault.
template <Kernel K>
void launch(K const& kernel, std::int64_t blocks, Order order = Order::forward) {
    HostThreads threads(K::name, K::threads, order);
    int count = static_cast<int>(blocks);
    for (int k = 0; k < count; ++k) {
        int index = order == Order::forward ? k : count - 1 - k;
        auto shared = std::make_unique_for_overwrite<typename K::Shared>();
        std::memset(static_cast<void*>(shared.get()), 0xA5, sizeof(typename K::Shared));
        shared_memory = {reinterpret_cast<std::byte const*>(shared.get()), sizeof(typename K::Shared)};
        threads.run(index, [&](int t) { kernel(Block(threads, t, index, count), *shared); });
    }
}

}  // namespace plait::cuda
