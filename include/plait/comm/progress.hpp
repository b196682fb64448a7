#pragma once

#include "plait/comm/communicator.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <thread>

namespace plait {

class Operation;

/// Who is told when a call takes too long; both make the world fail, and so every call on its way end.
class Watch {
  public:
    virtual ~Watch() = default;
    /// The time limit went by at a wait for `op`: finds out who is missing, if anyone is.
    virtual void overdue(Operation const& op) noexcept = 0;
    /// An exception unwinds this rank, `during` a call if one is given.
    virtual void unwinding(Call const* during) noexcept = 0;
    /// This rank's thread waits for a call from now on, or no longer.
    virtual void waits(bool) noexcept {}
};

/// A call of a transport with a progress thread, from the verb to wait().
class Operation : public Ticket {
  public:
    using Clock = std::chrono::steady_clock;

    /// `watch` must live until the operation is done.
    Operation(Call c, ConstView i, View o, Watch& watch, double limit_seconds)
        : call(c), in(i), out(o), watch_(watch), limit_(limit_seconds) {}

    Call call;
    ConstView const in;
    View const out;

    /// Done, without error, once the clock shows `at`.
    void complete(Clock::time_point at = {}) { end(nullptr, at); }
    void complete(std::exception_ptr error) { end(std::move(error), {}); }

    bool done() const override;
    void wait() override;
    void abandon() noexcept override;
    /// Waits, and leaves the error to others.
    void settle() noexcept;

  private:
    void end(std::exception_ptr error, Clock::time_point at);

    Watch& watch_;
    double const limit_;
    mutable std::mutex mutex_;
    std::condition_variable ended_;
    bool done_ = false;
    std::exception_ptr error_;
    Clock::time_point at_{};
};

/// A thread that runs the collectives of one communicator one after the other. It sleeps when there are none.
class ProgressThread {
  public:
    /// `run` does a collective; what it throws becomes the error of the operation. `poll`, if given, moves on
    /// what does not come in order, and returns whether there is more; it is called until there is not, with
    /// longer and longer pauses, between the collectives.
    explicit ProgressThread(std::function<void(Operation&)> run, std::function<bool()> poll = {});
    /// Waits for what was posted.
    ~ProgressThread();
    ProgressThread(ProgressThread const&) = delete;
    ProgressThread& operator=(ProgressThread const&) = delete;

    void post(std::shared_ptr<Operation> op);
    /// There is something to poll.
    void wake();

  private:
    void serve();

    std::function<void(Operation&)> run_;
    std::function<bool()> poll_;
    std::mutex mutex_;
    std::condition_variable posted_;
    std::deque<std::shared_ptr<Operation>> queue_;
    bool polling_ = false, closing_ = false;
    std::thread thread_;
};

/// Pauses that grow from a yield to half a millisecond, for transports that can only be polled.
class Backoff {
  public:
    void pause();
    void reset() { count_ = 0; }

  private:
    int count_ = 0;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/comm/progress-inl.hpp"
#endif
