#pragma once

#include "plait/core/check.hpp"
#include "plait/cpu/thread_pool.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

namespace plait {

namespace detail {
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}
}  // namespace detail

PLAIT_INLINE ThreadPool::ThreadPool(int workers) {
    int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    workers_ = workers > 0 ? workers : cores;
    // A few microseconds: kernels follow each other faster than a sleeper wakes. Without a core each, only
    // harm.
    spins_ = workers_ <= cores ? 400 : 0;
    check<UsageError>(workers_ <= most_workers, "{} threads: use at most {}", workers_, most_workers);
    threads_.reserve(static_cast<std::size_t>(workers_ - 1));
    try {
        for (int i = 1; i < workers_; ++i) threads_.emplace_back([this, i] { serve(i); });
    } catch (std::system_error const& e) {
        auto started = threads_.size() + 1;
        finish();
        fail("cannot start more than {} of {} threads: {}", started, workers_, e.what());
    }
}

PLAIT_INLINE ThreadPool::~ThreadPool() { finish(); }

PLAIT_INLINE void ThreadPool::finish() {
    stop_.store(true, std::memory_order_relaxed);
    calls_.fetch_add(1, std::memory_order_release);
    calls_.notify_all();
    for (auto& t : threads_) t.join();
}

PLAIT_INLINE ThreadPool::Place& ThreadPool::place() {
    thread_local Place place;
    return place;
}

PLAIT_INLINE int ThreadPool::current_worker() const { return place().pool == this ? place().worker : 0; }

PLAIT_INLINE void ThreadPool::run_tiles(std::int64_t tiles, Tile tile, void* f) {
    if (tiles <= 1 || workers_ == 1 || busy_.exchange(true, std::memory_order_acquire)) {
        int worker = current_worker();
        for (std::int64_t i = 0; i < tiles; ++i) tile(f, i, worker);
        return;
    }
    tile_ = tile, f_ = f, tiles_ = tiles, error_ = nullptr;
    next_.store(0, std::memory_order_relaxed);
    failed_.store(false, std::memory_order_relaxed);
    joined_.store(1, std::memory_order_release);
    calls_.fetch_add(1, std::memory_order_release);
    calls_.notify_all();
    auto outer = std::exchange(place(), Place{this, 0});
    work(0);
    place() = outer;

    // Threads that come too late find the job closed; those inside are waited for.
    auto inside = joined_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    for (int i = 0; inside && i < spins_; ++i) {
        detail::relax();
        inside = joined_.load(std::memory_order_acquire);
    }
    while (inside) {
        joined_.wait(inside, std::memory_order_acquire);
        inside = joined_.load(std::memory_order_acquire);
    }
    auto error = std::exchange(error_, nullptr);
    busy_.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
}

PLAIT_INLINE void ThreadPool::work(int worker) {
    try {
        for (;;) {
            auto i = next_.fetch_add(1, std::memory_order_relaxed);
            if (i >= tiles_) return;
            tile_(f_, i, worker);
        }
    } catch (...) {
        if (!failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
        next_.store(tiles_, std::memory_order_relaxed);
    }
}

PLAIT_INLINE void ThreadPool::serve(int worker) {
    place() = {this, worker};
    std::uint32_t seen = 0;
    while (true) {
        for (int i = 0; i < spins_ && calls_.load(std::memory_order_acquire) == seen; ++i) detail::relax();
        calls_.wait(seen, std::memory_order_acquire);
        seen = calls_.load(std::memory_order_acquire);
        if (stop_.load(std::memory_order_relaxed)) return;
        auto joined = joined_.load(std::memory_order_relaxed);
        while (joined & 1) {
            if (!joined_.compare_exchange_weak(joined, joined + 2, std::memory_order_acq_rel)) continue;
            work(worker);
            if (joined_.fetch_sub(2, std::memory_order_acq_rel) == 2) joined_.notify_one();
            break;
        }
    }
}

}  // namespace plait
