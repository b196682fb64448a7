#include "cuda/stream_world.hpp"

#include <algorithm>
#include <sstream>

// Who looks after calls that do not end: while a rank waits for its GPU, it looks how far that has come, and
// asks the others.
namespace plait::cuda {

void StreamWorld::watch(double waited) {
    check();
    // A wait begins: what was seen at the end of the last one may be of another replay.
    if (waited == 0) {
        for (auto& w : watched_) w.since = Clock::now();
        look_at_ = {};
    }
    for (auto const& [number, poll] : polls_) poll();
    if (Clock::now() < look_at_) return;
    look_at_ = Clock::now() + std::chrono::milliseconds(2);
    look();
    give_up();
    // One after the other, so that of all who wait one tells.
    double const limit = options_.limit_seconds + 0.1 * std::min(rank(), 19);
    if (waited < limit || Clock::now() < ask_at_) return;
    for (auto const& w : watched_) {
        std::chrono::duration<double> const stays = Clock::now() - w.since;
        if (!w.mark || stays.count() < limit) continue;
        overdue(w, stays.count() < 2 * limit);
        ask_at_ = Clock::now() + std::chrono::milliseconds(500);
        return;
    }
}

void StreamWorld::look() {
    for (auto& w : watched_) {
        auto const mark = w.track->mark();
        if (mark == w.mark) continue;
        w.mark = mark;
        w.since = Clock::now();
    }
    std::string error;
    for (auto& link : links_)
        if (error.empty()) error = link->error();
    if (error.empty()) return;
    // Often it is what another rank's end looks like from here, of which the board tells more.
    for (int i = 0; i < 1000 && !failed_; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    fail(failure_of_rank(rank(), error));
}

void StreamWorld::give_up() {
    // Memory waits for the GPU before it goes, and the GPU for ranks that may wait for a call which this one
    // will not make any more. An exception that others meet too is told with more by who catches it.
    if (std::uncaught_exceptions() <= exceptions_) return;
    for (auto const& w : watched_)
        if (w.mark && Clock::now() - w.since > std::chrono::seconds(1))
            fail(w.track->members.unwinding(w.track->rank, nullptr));
}

std::string StreamWorld::status() const {
    std::lock_guard lock(mutex_);
    std::string text;
    for (auto const& w : watched_) {
        auto const mark = w.track->mark();
        if (!mark) continue;
        auto const call = w.track->call_of(mark);
        text += fmt::format("{} {} {}: {}, {}\n", w.track->context, mark, w.track->members.name,
                            to_string(call), number_text(call));
    }
    return text;
}

void StreamWorld::overdue(Watched const& w, bool may_wait) {
    auto const call = w.track->call_of(w.mark);
    std::vector<int> all(static_cast<std::size_t>(w.track->members.size())), late, there, idle;
    for (std::size_t r = 0; r < all.size(); ++r) all[r] = static_cast<int>(r);
    std::vector<int> const asked = call.is_message() ? std::vector{std::min(w.track->rank, call.peer),
                                                                   std::max(w.track->rank, call.peer)}
                                                     : all;
    std::string more;
    if (board_) {
        auto const number = board_->append("asks", "");
        board_->append(Board::news, fmt::format("ask {}", number));
        auto const end = Clock::now() + std::chrono::seconds(2);
        for (int r : asked) {
            if (r == w.track->rank) {
                there.push_back(r);
                continue;
            }
            std::chrono::duration<double> const left = end - Clock::now();
            auto answer = board_->get(
                fmt::format("status/{}/{}", number, w.track->members.world[static_cast<std::size_t>(r)]),
                std::max(0.0, left.count()));
            check();
            std::istringstream lines(answer ? answer->front() : "");
            bool in_it = false;
            std::string in_other;
            for (std::string context; lines >> context;) {
                std::uint32_t mark = 0;
                std::string text;
                lines >> mark;
                std::getline(lines, text);
                if (context == w.track->context && mark == w.mark) in_it = true;
                else in_other = text;
            }
            if (in_it) {
                there.push_back(r);
                continue;
            }
            late.push_back(r);
            if (in_other.empty()) idle.push_back(r);
            else more += fmt::format("; {} waits in{}", w.track->members.rank(r), in_other);
        }
    }
    if (late.empty())
        fail(CommunicationError(
            fmt::format(
                "{}: {}, {}, does not end after {:.3g} s, though all its ranks are in it: a link or a "
                "GPU has failed",
                w.track->members.name, to_string(call), number_text(call), options_.limit_seconds),
            w.track->members.world, rank()));
    // A rank that waits itself is not what is missing; those who wait for the missing one will tell.
    if (idle.empty() && may_wait) return;
    fail(w.track->members.missing(idle.empty() ? late : idle, there, call, options_.limit_seconds, more));
}

}  // namespace plait::cuda
