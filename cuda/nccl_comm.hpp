#pragma once

#include "cuda/stream_world.hpp"
#include "plait/comm/progress.hpp"

#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>
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
// - ncclCommFinalize, which comes before ncclCommDestroy where calls do not block, takes all ranks: it is
// begun
//   for all communicators before any is waited for.
// - ncclCommAbort stops kernels at once, and then waits for graphs too, so it runs in a thread of its own,
//   which is joined when the communicator ends.
static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 18, 0), "Plait needs NCCL 2.18 or newer");

namespace plait::cuda {

/// Of one collective of a communicator, and of one message, how many blocks they may have on the GPU. They
/// stay there until all ranks have come, so those of all communicators must find room together: were one
/// rank's GPU full of a call that waits for another rank, and that one's of a call that waits for the first,
/// both would wait for ever. The world, four axes, and messages both ways with both neighbours of a pipeline
/// take 96, each on a multiprocessor of its own, of which an H100 has 114 or more. NCCL_MAX_CTAS overrides
/// it.
constexpr int collective_blocks = 16, message_blocks = 4;

/// One ncclComm_t. One thread calls it, save abort().
class Comm {
  public:
    /// Begins to join; `id` is of all `size` ranks. Nothing but ready() is called before that is true.
    Comm(StreamWorld& world, std::string name, ncclUniqueId const& id, int size, int rank, int blocks)
        : world_(world), name_(std::move(name)) {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        config.maxCTAs = blocks;
        expect(ncclCommInitRankConfig(&comm_, size, id, rank, &config), "ncclCommInitRankConfig");
    }
    ~Comm() {
        if (abort_.joinable()) abort_.join();
        else if (comm_ && !aborted_ && left_ == ncclSuccess) ncclCommDestroy(comm_);
        else if (comm_) ncclCommAbort(comm_);
    }
    Comm(Comm const&) = delete;
    Comm& operator=(Comm const&) = delete;

    bool ready() {
        if (ready_) return true;
        auto const result = state();
        expect(result, "ncclCommInitRankConfig");
        return ready_ = result == ncclSuccess;
    }

    /// f(ncclComm_t), a call of NCCL, until it is no longer in progress.
    template <class F>
    void finish(char const* what, F const& f) {
        auto result = ask(f);
        expect(result, what);
        auto const begin = std::chrono::steady_clock::now();
        for (Backoff backoff; result == ncclInProgress; backoff.pause()) {
            world_.check();
            result = state();
            expect(result, what);
            std::chrono::duration<double> const waited = std::chrono::steady_clock::now() - begin;
            if (waited.count() > world_.options().limit_seconds)
                throw CommunicationError(fmt::format("{}: {} does not end after {:.3g} s: a rank is missing",
                                                     name_, what, waited.count()),
                                         {}, world_.rank());
        }
    }
    /// The same within a group, whose end is what is in progress.
    template <class F>
    void begin(char const* what, F const& f) {
        expect(ask(f), what);
    }

    // See Link.
    std::string error() {
        std::lock_guard lock(used_);
        if (aborted_ || !comm_) return {};
        auto const result = state_of(comm_);
        return result == ncclSuccess || result == ncclInProgress
                   ? ""
                   : fmt::format("{}: {}", name_, reason_of(result));
    }
    void abort() noexcept {
        if (aborted_.exchange(true) || !comm_) return;
        try {
            abort_ = std::thread([this] {
                // Then the calls that began before are over; one that takes longer may wait for what this
                // ends.
                if (used_.try_lock_for(std::chrono::seconds(1))) used_.unlock();
                ncclCommAbort(comm_);
                abort_over_ = true;
            });
        } catch (std::exception const&) {
            abort_over_ = true;  // the destructor does it
        }
    }
    void leave() noexcept {
        try {
            if (comm_ && ready()) left_ = ask([](ncclComm_t comm) { return ncclCommFinalize(comm); });
        } catch (CommunicationError const&) {}
    }
    bool ended() noexcept {
        if (aborted_) return abort_over_ || !comm_;
        std::lock_guard lock(used_);
        if (left_ == ncclInProgress && !aborted_) left_ = state_of(comm_);
        return left_ != ncclInProgress;
    }

  private:
    static ncclResult_t state_of(ncclComm_t comm) {
        ncclResult_t state = ncclSuccess;
        auto const asked = ncclCommGetAsyncError(comm, &state);
        return asked == ncclSuccess ? state : asked;
    }
    ncclResult_t state() { return ask(state_of); }
    /// f(ncclComm_t), unless it was aborted.
    template <class F>
    ncclResult_t ask(F const& f) {
        std::unique_lock lock(used_);
        if (!aborted_) return f(comm_);
        lock.unlock();
        world_.check();
        throw CommunicationError(name_ + " was ended", {}, world_.rank());
    }
    void expect(ncclResult_t result, char const* what) const {
        if (result == ncclSuccess || result == ncclInProgress) return;
        throw CommunicationError(
            fmt::format("{}: {}: {}; NCCL_DEBUG=WARN says more", name_, what, reason_of(result)),
            {world_.rank()}, world_.rank());
    }
    static std::string reason_of(ncclResult_t result) {
        auto const* last = ncclGetLastError(nullptr);  // whatever the communicator
        return fmt::format("{}{}{}", ncclGetErrorString(result), last && *last ? ": " : "", last ? last : "");
    }

    StreamWorld& world_;
    std::string const name_;
    ncclComm_t comm_ = nullptr;
    bool ready_ = false;
    std::optional<ncclResult_t> left_;  // what has come of ncclCommFinalize
    std::timed_mutex used_;
    std::atomic<bool> aborted_ = false, abort_over_ = false;
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
