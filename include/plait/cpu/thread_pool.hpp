#pragma once

#include "plait/core/inline.hpp"

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace plait {

/// Threads that share the tiles of one kernel at a time. What a tile computes never depends on how many there
/// are.
class ThreadPool {
  public:
    static constexpr int most_workers = 1024;

    /// `workers` threads, the caller being the first of them; 0 takes all cores. Throws where they cannot
    /// start.
    explicit ThreadPool(int workers = 0);
    ~ThreadPool();
    ThreadPool(ThreadPool const&) = delete;
    ThreadPool& operator=(ThreadPool const&) = delete;

    int workers() const { return workers_; }

    /// Calls f(tile, worker) once for every tile in [0, tiles), in any order, worker being in [0, workers()),
    /// and returns when all are done. Tiles that run at one time have different worker numbers, so these may
    /// index scratch. A run inside a tile, or of another thread meanwhile, is serial. The first exception of
    /// a tile is thrown again here; tiles that had not begun are then left out. Allocates nothing.
    template <class F>
    void run(std::int64_t tiles, F&& f) {
        using Function = std::remove_reference_t<F>;
        run_tiles(
            tiles, [](void* g, std::int64_t tile, int worker) { (*static_cast<Function*>(g))(tile, worker); },
            const_cast<void*>(static_cast<void const*>(std::addressof(f))));
    }

  private:
    using Tile = void (*)(void* f, std::int64_t tile, int worker);

    void run_tiles(std::int64_t tiles, Tile tile, void* f);
    void work(int worker);
    void serve(int worker);
    void finish();
    int current_worker() const;

    struct Place {
        ThreadPool const* pool = nullptr;
        int worker = 0;
    };
    static Place& place();  // of this thread: the tile that it runs

    int workers_;
    int spins_;
    std::vector<std::thread> threads_;
    std::atomic<bool> busy_{false}, stop_{false};

    // The job; written only while no thread has joined it.
    Tile tile_ = nullptr;
    void* f_ = nullptr;
    std::int64_t tiles_ = 0;
    std::exception_ptr error_;
    alignas(64) std::atomic<std::int64_t> next_{0};
    std::atomic<bool> failed_{false};
    alignas(64) std::atomic<std::uint32_t> calls_{0};   // counts jobs; threads sleep on it
    alignas(64) std::atomic<std::uint32_t> joined_{0};  // 2 * threads in the job, + 1 while it takes more
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/cpu/thread_pool-inl.hpp"
#endif
