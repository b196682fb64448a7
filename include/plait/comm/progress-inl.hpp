#pragma once

#include "plait/comm/progress.hpp"

#include <algorithm>
#include <utility>

namespace plait {

PLAIT_INLINE bool Operation::done() const {
    std::lock_guard lock(mutex_);
    return done_ && Clock::now() >= at_;
}

PLAIT_INLINE void Operation::wait() {
    std::unique_lock lock(mutex_);
    bool const blocks = !done_;
    if (blocks) watch_.waits(true);
    while (!ended_.wait_for(lock, std::chrono::duration<double>(limit_), [&] { return done_; })) {
        lock.unlock();
        watch_.overdue(*this);
        lock.lock();
    }
    if (blocks) watch_.waits(false);
    auto at = at_;
    auto error = error_;
    lock.unlock();
    if (error) std::rethrow_exception(error);
    if (at > Clock::now()) std::this_thread::sleep_until(at);
}

PLAIT_INLINE void Operation::abandon() noexcept {
    // Mostly the others have called it too; then the exception itself, caught further out, is what they
    // should hear.
    {
        std::unique_lock lock(mutex_);
        if (ended_.wait_for(lock, std::chrono::milliseconds(100), [&] { return done_; })) return;
    }
    watch_.unwinding(&call);
}

PLAIT_INLINE void Operation::settle() noexcept {
    try {
        wait();
    } catch (...) {}
}

PLAIT_INLINE void Operation::end(std::exception_ptr error, Clock::time_point at) {
    std::lock_guard lock(mutex_);
    done_ = true;
    error_ = std::move(error);
    at_ = at;
    ended_.notify_all();
}

PLAIT_INLINE ProgressThread::ProgressThread(std::function<void(Operation&)> run, std::function<bool()> poll)
    : run_(std::move(run)), poll_(std::move(poll)), thread_([this] { serve(); }) {}

PLAIT_INLINE ProgressThread::~ProgressThread() {
    {
        std::lock_guard lock(mutex_);
        closing_ = true;
    }
    posted_.notify_one();
    thread_.join();
}

PLAIT_INLINE void ProgressThread::post(std::shared_ptr<Operation> op) {
    {
        std::lock_guard lock(mutex_);
        queue_.push_back(std::move(op));
    }
    posted_.notify_one();
}

PLAIT_INLINE void ProgressThread::wake() {
    {
        std::lock_guard lock(mutex_);
        polling_ = true;
    }
    posted_.notify_one();
}

PLAIT_INLINE void ProgressThread::serve() {
    Backoff backoff;
    for (;;) {
        std::shared_ptr<Operation> op;
        {
            std::unique_lock lock(mutex_);
            posted_.wait(lock, [&] { return polling_ || closing_ || !queue_.empty(); });
            if (!queue_.empty()) {
                op = std::move(queue_.front());
                queue_.pop_front();
            } else if (closing_ && !polling_) {
                return;
            }
            // Whoever wakes us from here on asks for one more poll.
            if (!op) polling_ = false;
        }
        if (op) {
            try {
                run_(*op);
            } catch (...) {
                op->complete(std::current_exception());
            }
            backoff.reset();
        } else if (poll_ && poll_()) {
            {
                std::lock_guard lock(mutex_);
                polling_ = true;
            }
            backoff.pause();
        } else {
            backoff.reset();
        }
    }
}

PLAIT_INLINE void Backoff::pause() {
    if (count_++ < 20) std::this_thread::yield();
    else std::this_thread::sleep_for(std::chrono::microseconds(std::min(500, 10 * (count_ - 20))));
}

}  // namespace plait
