#pragma once

#include "plait/comm/communicator.hpp"

#include <functional>

namespace plait {

struct ThreadOptions {
    /// How long a rank waits for another in one call before the world fails.
    double limit_seconds = 300;
    /// Added to the time of every call; calls under way at one time wait it out together. For measurements of
    /// overlap.
    double latency_seconds = 0;
    /// run_ranks only: called with the failure when a rank has not returned a time limit after it, as no
    /// thread can be ended from outside. By default the message goes to standard error and the process exits
    /// with code 1.
    std::function<void(std::string const& failure)> hung = {};
};

namespace detail {
class ThreadGroup;
}

/// A world whose ranks are threads of this process.
class ThreadWorld {
  public:
    explicit ThreadWorld(int size, ThreadOptions options = {});

    int size() const;
    /// The communicator of `rank`, to be taken once, by its thread; it may outlive this object. Its end tells
    /// the others that the rank has left.
    std::unique_ptr<Communicator> join(int rank);
    /// Ends the world: every call on its way, and every later one, throws `why` (the first one counts).
    void fail(CommunicationError const& why);
    /// Empty while all is well.
    std::string failure() const;

  private:
    std::shared_ptr<detail::ThreadGroup> group_;
};

/// Runs f(communicator) for `size` ranks on as many threads, and returns when all have. An exception of one
/// ends the world; the first that is not such an end itself is thrown again, as UsageError or Error, naming
/// the rank. One rank runs on the caller's thread.
void run_ranks(int size, std::function<void(Communicator&)> const& f, ThreadOptions options = {});

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/comm/threads-inl.hpp"
#endif
