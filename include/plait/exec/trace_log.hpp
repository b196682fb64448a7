#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

namespace plait {

/// When what of a program ran: an executor that has one fills it in. Times are nanoseconds of the steady
/// clock.
struct TraceLog {
    enum class What : std::uint8_t { step, visit, instruction, transfer };
    struct Event {
        What what = What::step;
        /// Of the step; of the visit or the instruction in the program, for a transfer of the one that starts
        /// it.
        std::int64_t index = 0;
        int micro = 0;
        std::int64_t start = 0, end = 0;
        std::int64_t wait = 0;  // of a transfer: from here to its end the rank waited for it
    };

    /// In the order of their ends; a transfer ends with the wait for it.
    std::vector<Event> events;

    static std::int64_t now() {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(
                   std::chrono::steady_clock::now().time_since_epoch())
            .count();
    }
};

}  // namespace plait
