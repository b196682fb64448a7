#pragma once

#include "plait/comm/ordered.hpp"
#include "plait/comm/progress.hpp"
#include "plait/comm/threads.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <map>
#include <optional>

namespace plait::detail {

class ThreadGroup;

/// What all groups of a world share: how it failed.
struct ThreadWorldState : std::enable_shared_from_this<ThreadWorldState> {
    explicit ThreadWorldState(ThreadOptions o) : options(std::move(o)) {}

    /// Closes every group with the first failure. Not to be called with a group's lock held.
    void fail(CommunicationError const& why);
    std::shared_ptr<ThreadGroup> make_group(Members members);
    /// When a call that has come so far is done.
    Operation::Clock::time_point ready() const {
        auto latency = std::chrono::duration<double>(options.latency_seconds);
        return Operation::Clock::now() + std::chrono::duration_cast<Operation::Clock::duration>(latency);
    }

    ThreadOptions const options;
    std::mutex mutex;
    std::optional<CommunicationError> failure;
    std::vector<std::weak_ptr<ThreadGroup>> groups;
};

/// Where the ranks of one communicator meet.
///
/// A collective has two gates. At the first all ranks leave their call; the last one compares them and opens
/// it, for all or for none, so that no rank's memory goes while another reads it. Behind it each rank does
/// its share, and the second opens when all have.
class ThreadGroup {
  public:
    ThreadGroup(std::shared_ptr<ThreadWorldState> world, Members members)
        : world_(std::move(world)),
          members_(std::move(members)),
          seats_(static_cast<std::size_t>(members_.size())) {}

    ThreadWorldState& world() const { return *world_; }
    Members const& members() const { return members_; }
    int size() const { return members_.size(); }

    /// Does rank `r`'s side of a collective; returns the bytes that it sent. Throws the world's failure.
    std::int64_t collective(int r, Operation const& op);
    /// Leaves rank `r`'s side of a message here, or carries it out where the other side has come.
    void message(int r, std::shared_ptr<Operation> op, TrafficTable& traffic);

    /// The world fails if a rank keeps `op` of rank `r` waiting.
    void overdue(int r, Operation const& op);
    void leave(int r);
    void close(CommunicationError const& why);
    /// The group of the ranks of one color after split `number`: made by the first of them, taken by all.
    std::shared_ptr<ThreadGroup> part(std::uint64_t number, int color, Members members);

  private:
    struct Seat {
        Call call;
        ConstView in;
        View out;
        std::uint64_t calls = 0;  // collectives that the rank has come to
        bool left = false;
        std::atomic<std::int64_t> sent{0};  // in the present one; others add to it as they read
    };
    struct Side {
        std::shared_ptr<Operation> op;
        TrafficTable* traffic = nullptr;
    };
    struct Channel {  // of one rank to another; one of the queues is empty
        std::deque<Side> sides[2];
        std::uint64_t numbers[2] = {0, 0};
    };
    struct Birth {
        std::shared_ptr<ThreadGroup> group;
        int taken = 0;
    };

    void meet(int r, Operation const& op);
    void share(int r, Call const& call);
    void part_ways(std::uint64_t number);
    void carry(int r, Side const& mine, Side const& theirs);
    std::vector<int> absent(std::uint64_t number) const;
    /// A message that rank `r` has left here and the other side not taken.
    Operation const* waiting_message(int r) const;
    Seat& seat(int r) { return seats_[static_cast<std::size_t>(r)]; }
    void copy(int from, int to, std::byte* y, std::byte const* x, std::int64_t bytes);

    std::shared_ptr<ThreadWorldState> const world_;
    Members const members_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Seat> seats_;
    int here_ = 0;                               // ranks at the first gate of call met_ + 1
    int working_ = 0;                            // ranks behind it
    std::uint64_t met_ = 0;                      // calls whose first gate has opened
    std::uint64_t finished_ = 0;                 // and whose second
    std::optional<CommunicationError> failure_;  // closed by it
    std::map<std::pair<int, int>, Channel> channels_;
    std::map<std::pair<std::uint64_t, int>, Birth> births_;
};

PLAIT_INLINE void ThreadWorldState::fail(CommunicationError const& why) {
    std::vector<std::shared_ptr<ThreadGroup>> live;
    std::optional<CommunicationError> first;
    {
        std::lock_guard lock(mutex);
        if (!failure) failure = why;
        first = failure;
        for (auto const& g : groups) {
            if (auto group = g.lock()) live.push_back(std::move(group));
        }
    }
    for (auto const& group : live) group->close(*first);
}

PLAIT_INLINE std::int64_t ThreadGroup::collective(int r, Operation const& op) {
    meet(r, op);
    share(r, op.call);
    part_ways(op.call.number);
    return seat(r).sent.exchange(0);
}

PLAIT_INLINE std::vector<int> ThreadGroup::absent(std::uint64_t number) const {
    std::vector<int> ranks;
    for (int r = 0; r < size(); ++r) {
        if (seats_[static_cast<std::size_t>(r)].calls < number) ranks.push_back(r);
    }
    return ranks;
}

PLAIT_INLINE void ThreadGroup::meet(int r, Operation const& op) {
    auto number = op.call.number;
    std::optional<CommunicationError> why;
    {
        std::unique_lock lock(mutex_);
        if (failure_) throw *failure_;
        auto& mine = seat(r);
        mine.call = op.call, mine.in = op.in, mine.out = op.out, mine.calls = number;
        if (++here_ == size()) {
            std::vector<Call> calls;
            for (auto const& s : seats_) calls.push_back(s.call);
            if (auto wrong = members_.mismatch(calls)) {
                why = wrong;
            } else {
                here_ = 0, working_ = size(), ++met_;
                changed_.notify_all();
                return;
            }
        } else {
            auto gone = [&] {
                for (int a : absent(number)) {
                    if (seat(a).left) return a;
                }
                return -1;
            };
            changed_.wait(lock, [&] { return met_ >= number || failure_ || gone() >= 0; });
            if (met_ >= number) return;
            if (failure_) throw *failure_;
            why = members_.left(gone(), r, op.call);
        }
    }
    world_->fail(*why);
    std::lock_guard lock(mutex_);
    throw *failure_;
}

PLAIT_INLINE void ThreadGroup::part_ways(std::uint64_t number) {
    std::unique_lock lock(mutex_);
    if (--working_ == 0) {
        ++finished_;
        changed_.notify_all();
    }
    changed_.wait(lock, [&] { return finished_ >= number; });
}

PLAIT_INLINE void ThreadGroup::copy(int from, int to, std::byte* y, std::byte const* x, std::int64_t bytes) {
    if (y != x && bytes > 0) std::memcpy(y, x, static_cast<std::size_t>(bytes));
    if (from != to) seat(from).sent += bytes;
}

PLAIT_INLINE void ThreadGroup::share(int r, Call const& call) {
    auto block = bytes_of(call.dtype, call.count);
    auto& mine = seat(r);
    // The combination of elements [first, last) of all inputs goes to `y`; the other ranks send them.
    std::vector<std::byte const*> inputs(static_cast<std::size_t>(size()));
    auto combine = [&](std::int64_t first, std::int64_t last, std::byte* y) {
        for (int s = 0; s < size(); ++s) {
            inputs[static_cast<std::size_t>(s)] = seat(s).in.data + bytes_of(call.dtype, first);
            if (s != r) seat(s).sent += bytes_of(call.dtype, last - first);
        }
        ordered_combine(call.combine, call.dtype, inputs, y, last - first);
    };
    switch (call.verb) {
        case Verb::all_reduce: {
            // Tile by tile, while it is in the cache.
            constexpr std::int64_t tile = 4096;
            auto [first, last] = part_of(call.count, r, size());
            for (; first < last; first += tile) {
                auto end = std::min(first + tile, last);
                auto at = bytes_of(call.dtype, first);
                combine(first, end, mine.out.data + at);
                for (int s = 0; s < size(); ++s) {
                    if (s != r)
                        copy(r, s, seat(s).out.data + at, mine.out.data + at,
                             bytes_of(call.dtype, end - first));
                }
            }
            return;
        }
        case Verb::reduce_scatter:
            return combine(r * call.count, (r + 1) * call.count, mine.out.data);
        case Verb::all_gather:
        case Verb::split:
            for (int s = 0; s < size(); ++s) copy(s, r, mine.out.data + s * block, seat(s).in.data, block);
            return;
        case Verb::all_to_all:
            for (int s = 0; s < size(); ++s)
                copy(s, r, mine.out.data + s * block, seat(s).in.data + r * block, block);
            return;
        case Verb::broadcast:
            return copy(call.peer, r, mine.out.data, seat(call.peer).in.data, block);
        default:
            return;
    }
}

PLAIT_INLINE void ThreadGroup::message(int r, std::shared_ptr<Operation> op, TrafficTable& traffic) {
    bool sends = op->call.verb == Verb::send;
    int peer = op->call.peer;
    Side mine{op, &traffic}, theirs;
    {
        std::unique_lock lock(mutex_);
        auto& channel = channels_[sends ? std::pair(r, peer) : std::pair(peer, r)];
        op->call.number = ++channel.numbers[sends];
        if (failure_) return op->complete(std::make_exception_ptr(*failure_));
        auto& waiting = channel.sides[!sends];
        if (waiting.empty()) {
            channel.sides[sends].push_back(mine);
            if (!seat(peer).left) return;
            lock.unlock();
            return world_->fail(members_.left(peer, r, op->call));
        }
        theirs = std::move(waiting.front());
        waiting.pop_front();
    }
    carry(r, mine, theirs);
}

PLAIT_INLINE void ThreadGroup::carry(int r, Side const& mine, Side const& theirs) {
    if (auto wrong = members_.mismatch(r, mine.op->call, theirs.op->call)) {
        world_->fail(*wrong);
        std::exception_ptr why;
        {
            std::lock_guard lock(mutex_);
            why = std::make_exception_ptr(*failure_);
        }
        mine.op->complete(why);
        theirs.op->complete(why);
        return;
    }
    bool sends = mine.op->call.verb == Verb::send;
    auto const &from = sends ? mine : theirs, &to = sends ? theirs : mine;
    auto bytes = from.op->in.bytes();
    if (bytes > 0) std::memcpy(to.op->out.data, from.op->in.data, static_cast<std::size_t>(bytes));
    from.traffic->add(Verb::send, from.op->call.dtype, bytes);
    to.traffic->add(Verb::recv, from.op->call.dtype, 0);
    auto at = world_->ready();
    from.op->complete(at);
    to.op->complete(at);
}

PLAIT_INLINE Operation const* ThreadGroup::waiting_message(int r) const {
    for (auto const& [ends, channel] : channels_) {
        bool sends = ends.first == r;
        auto const& waiting = channel.sides[sends];
        if ((sends || ends.second == r) && !waiting.empty()) return waiting.front().op.get();
    }
    return nullptr;
}

PLAIT_INLINE void ThreadGroup::overdue(int r, Operation const& op) {
    std::optional<CommunicationError> why;
    {
        std::lock_guard lock(mutex_);
        std::vector<int> late, there;
        Call awaited = op.call;
        if (op.call.is_message()) {
            bool sends = op.call.verb == Verb::send;
            auto const& side =
                channels_[sends ? std::pair(r, op.call.peer) : std::pair(op.call.peer, r)].sides[sends];
            if (std::none_of(side.begin(), side.end(), [&](Side const& s) { return s.op.get() == &op; }))
                return;
            late = {op.call.peer}, there = {r};
        } else {
            // Maybe of an earlier call than `op`, which nobody waits for.
            if (here_ == 0 || here_ == size()) return;
            for (int s = 0; s < size(); ++s) (seat(s).calls > met_ ? there : late).push_back(s);
            awaited = seat(there[0]).call;
        }
        std::string more;
        for (int l : late) {
            auto const* message = waiting_message(l);
            auto const* call = seat(l).calls > met_ ? &seat(l).call : message ? &message->call : nullptr;
            if (call)
                more += fmt::format("; {} waits in {}, {}", members_.rank(l), to_string(*call),
                                    number_text(*call));
        }
        why = members_.missing(late, there, awaited, world_->options.limit_seconds, more);
    }
    world_->fail(*why);
}

PLAIT_INLINE void ThreadGroup::leave(int r) {
    std::optional<CommunicationError> why;
    {
        std::lock_guard lock(mutex_);
        seat(r).left = true;
        for (auto const& [ends, channel] : channels_) {
            auto [from, to] = ends;
            auto const& waiting =
                channel.sides[to == r];  // a sender waits for r to receive, or the other way round
            if ((from == r || to == r) && !waiting.empty()) {
                why = members_.left(r, from == r ? to : from, waiting.front().op->call);
            }
        }
        changed_.notify_all();
    }
    if (why) world_->fail(*why);
}

PLAIT_INLINE void ThreadGroup::close(CommunicationError const& why) {
    std::vector<Side> waiting;
    {
        std::lock_guard lock(mutex_);
        if (failure_) return;
        failure_ = why;
        for (auto& [ends, channel] : channels_) {
            for (auto& side : channel.sides) {
                waiting.insert(waiting.end(), side.begin(), side.end());
                side.clear();
            }
        }
        changed_.notify_all();
    }
    for (auto const& side : waiting) side.op->complete(std::make_exception_ptr(why));
}

PLAIT_INLINE std::shared_ptr<ThreadGroup> ThreadGroup::part(std::uint64_t number, int color,
                                                            Members members) {
    std::lock_guard lock(mutex_);
    auto& birth = births_[{number, color}];
    int size = members.size();
    if (!birth.group) birth.group = world_->make_group(std::move(members));
    auto group = birth.group;
    if (++birth.taken == size) births_.erase({number, color});
    return group;
}

PLAIT_INLINE std::shared_ptr<ThreadGroup> ThreadWorldState::make_group(Members members) {
    auto group = std::make_shared<ThreadGroup>(shared_from_this(), std::move(members));
    std::optional<CommunicationError> why;
    {
        std::lock_guard lock(mutex);
        std::erase_if(groups, [](auto const& g) { return g.expired(); });
        groups.push_back(group);
        why = failure;
    }
    if (why) group->close(*why);
    return group;
}

}  // namespace plait::detail
