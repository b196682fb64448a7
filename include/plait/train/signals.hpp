#pragma once

#include "plait/core/inline.hpp"

#include <array>
#include <csignal>
#include <string_view>

namespace plait {

/// While it lives, SIGINT, SIGTERM and SIGUSR1 ask the run to stop after its step instead of ending the
/// process; the next of them ends it at once. Schedulers send SIGTERM or SIGUSR1 before they take a machine
/// away. The handlers before are put back at the end. One at a time.
class StopSignals {
  public:
    StopSignals();
    ~StopSignals();
    StopSignals(StopSignals const&) = delete;
    StopSignals& operator=(StopSignals const&) = delete;

    /// Whether one of them has come.
    bool requested() const { return number() != 0; }
    /// The newest that has come, or 0.
    int number() const;
    /// "SIGINT", or "" when none has come.
    std::string_view name() const { return name_of(number()); }
    /// The same of a number.
    static std::string_view name_of(int signal);

  private:
    std::array<struct sigaction, 3> before_{};
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/signals-inl.hpp"
#endif
