#pragma once

#include "plait/train/signals.hpp"

#include <atomic>
#include <cstddef>

namespace plait {
namespace detail {

// A handler can reach nothing but globals. Lock-free, so it is safe there and may be read by any thread.
inline constexpr int stop_signals[] = {SIGINT, SIGTERM, SIGUSR1};
inline std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" inline void plait_stop_handler(int signal) {
    int const before = stop_signal.exchange(signal);
    for (int next : stop_signals) std::signal(next, SIG_DFL);  // POSIX allows it here
    // Two that came at the same moment both get here.
    if (before != 0) std::raise(signal);
}

}  // namespace detail

PLAIT_INLINE StopSignals::StopSignals() {
    detail::stop_signal = 0;
    struct sigaction action {};
    action.sa_handler = detail::plait_stop_handler;
    action.sa_flags = SA_RESTART;  // reads and writes under way go on
    ::sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < before_.size(); ++i)
        ::sigaction(detail::stop_signals[i], &action, &before_[i]);
}

PLAIT_INLINE StopSignals::~StopSignals() {
    for (std::size_t i = 0; i < before_.size(); ++i)
        ::sigaction(detail::stop_signals[i], &before_[i], nullptr);
}

PLAIT_INLINE int StopSignals::number() const { return detail::stop_signal; }

PLAIT_INLINE std::string_view StopSignals::name_of(int signal) {
    switch (signal) {
        case SIGINT:
            return "SIGINT";
        case SIGTERM:
            return "SIGTERM";
        case SIGUSR1:
            return "SIGUSR1";
        default:
            return "";
    }
}

}  // namespace plait
