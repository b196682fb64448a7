#pragma once

#include "cuda/stream_world.hpp"
#include "plait/comm/progress.hpp"

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include <nccl.h>

// What NCCL asks of its callers, and what is done about it:
// - Communicators do not block (ncclConfig_t::blocking = 0): a call may return ncclInProgress, and nothing
// more
//   is asked of the communicator until ncclCommGetAsyncError says ncclSuccess. So no call hangs the host, and
//   a rank that fails ends the wait of the others.
// - All work of one communicator is done in the order of its calls, whatever the streams. So messages have
//   communicators of two ranks of their own, one each way.
// - A call in a recording becomes nodes of its graph; all ranks record the same. What allocates, which is the
//   first use of a way between two ranks, must not happen there: every call runs once before it is recorded.
// - ncclCommDestroy waits for the graphs that hold work of the communicator; see join_nccl.
// - ncclCommAbort stops kernels at once, and then waits for graphs too, so it runs in a thread of its own,
//   which is joined when the communicator ends.
static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 18, 0), "Plait needs NCCL 2.18 or newer");

namespace plait::cuda {

/// One ncclComm_t.
class Comm {
  public:
    /// Begins to join; `id` is of all `size` ranks. Nothing but ready() is called before that is true.
    Comm(StreamWorld& world, std::string name, ncclUniqueId const& id, int size, int rank)
        : world_(world), name_(std::move(name)) {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        expect(ncclCommInitRankConfig(&comm_, size, id, rank, &config), "ncclCommInitRankConfig");
    }
    ~Comm() {
        if (abort_.joinable()) abort_.join();
        else if (comm_ && !(ready_ && finalised())) ncclCommAbort(comm_);
        else if (comm_) ncclCommDestroy(comm_);
    }
    Comm(Comm const&) = delete;
    Comm& operator=(Comm const&) = delete;

    ncclComm_t get() const { return comm_; }

    bool ready() {
        if (aborted_ || ready_) return ready_;
        ncclResult_t state = ncclSuccess;
        expect(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
        if (state == ncclInProgress) return false;
        expect(state, "ncclCommInitRankConfig");
        return ready_ = true;
    }

    /// A call of NCCL: its result, once it has one.
    void expect(ncclResult_t result, char const* what) {
        if (result == ncclSuccess || result == ncclInProgress) return;
        auto const* last = ncclGetLastError(comm_);
        throw CommunicationError(
            fmt::format("{}: {}: {}{}{}; NCCL_DEBUG=WARN says more", name_, what, ncclGetErrorString(result),
                        last && *last ? ": " : "", last ? last : ""),
            {world_.rank()}, world_.rank());
    }
    /// The same, until it is no longer in progress.
    void finish(ncclResult_t result, char const* what) {
        if (aborted_) throw CommunicationError(name_ + " was ended");
        expect(result, what);
        if (result == ncclSuccess) return;
        auto const begin = std::chrono::steady_clock::now();
        for (Backoff backoff; result == ncclInProgress; backoff.pause()) {
            world_.check();
            expect(ncclCommGetAsyncError(comm_, &result), "ncclCommGetAsyncError");
            std::chrono::duration<double> const waited = std::chrono::steady_clock::now() - begin;
            if (waited.count() > world_.options().limit_seconds)
                throw CommunicationError(fmt::format("{}: {} does not end after {:.3g} s: a rank is missing",
                                                     name_, what, waited.count()),
                                         {}, world_.rank());
        }
        expect(result, what);
    }

    std::string error() {
        if (aborted_ || !comm_) return {};
        ncclResult_t state = ncclSuccess;
        auto result = ncclCommGetAsyncError(comm_, &state);
        if (result == ncclSuccess) result = state;
        if (result == ncclSuccess || result == ncclInProgress) return {};
        auto const* last = ncclGetLastError(comm_);
        return fmt::format("{}: {}{}{}", name_, ncclGetErrorString(result), last && *last ? ": " : "",
                           last ? last : "");
    }

    void abort() noexcept {
        if (std::exchange(aborted_, true) || !comm_) return;
        try {
            abort_ = std::thread([comm = comm_, this] {
                ncclCommAbort(comm);
                abort_done_ = true;
            });
        } catch (std::exception const&) {}
        // Mostly it is done in a moment, and the GPU free to be waited for.
        for (int i = 0; i < 2000 && !abort_done_; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }

  private:
    /// As those that do not block must be before they are destroyed; it takes all ranks.
    bool finalised() {
        auto state = ncclCommFinalize(comm_);
        auto const begin = std::chrono::steady_clock::now();
        for (Backoff backoff; state == ncclInProgress; backoff.pause()) {
            std::chrono::duration<double> const waited = std::chrono::steady_clock::now() - begin;
            if (waited.count() > world_.options().limit_seconds) return false;
            if (auto asked = ncclCommGetAsyncError(comm_, &state); asked != ncclSuccess) return false;
        }
        return state == ncclSuccess;
    }

    StreamWorld& world_;
    std::string const name_;
    ncclComm_t comm_ = nullptr;
    bool ready_ = false, aborted_ = false;
    std::atomic<bool> abort_done_ = false;
    std::thread abort_;
};

inline std::string text_of(ncclUniqueId const& id) { return {id.internal, sizeof id.internal}; }
inline ncclUniqueId id_of(std::string const& text) {
    ncclUniqueId id;
    check(text.size() == sizeof id.internal, "a unique id of NCCL has {} bytes, this one {}",
          sizeof id.internal, text.size());
    std::memcpy(id.internal, text.data(), text.size());
    return id;
}
inline ncclUniqueId new_id() {
    ncclUniqueId id;
    auto result = ncclGetUniqueId(&id);
    if (result != ncclSuccess)
        throw CommunicationError(
            fmt::format("ncclGetUniqueId: {}: {}", ncclGetErrorString(result), ncclGetLastError(nullptr)));
    return id;
}

}  // namespace plait::cuda
