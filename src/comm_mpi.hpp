#pragma once

#include "plait/comm/ordered.hpp"
#include "plait/comm/progress.hpp"

// The C interface only.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string_view>

namespace plait::mpi {

class World;

/// Four tags belong to each communicator, from 4 * its context; the first four are the world's own.
inline constexpr int world_context = 1, end_tag = 0, failure_tag = 1, ask_tag = 2, answer_tag = 3;

/// MPI requests that touch one piece of memory; what is not done at the end of their scope is given up, so
/// that nothing arrives there later.
class Requests {
  public:
    explicit Requests(World& world) : world_(world) {}
    ~Requests();
    Requests(Requests const&) = delete;
    Requests& operator=(Requests const&) = delete;

    MPI_Request* add() { return &all_.emplace_back(MPI_REQUEST_NULL); }

  private:
    friend World;
    World& world_;
    std::vector<MPI_Request> all_;
};

/// A failure as it is sent: as much of its text, and as many of its ranks, as there is room for.
struct Farewell {
    std::int32_t witness = 0, count = 0;
    std::array<std::int32_t, 62> ranks{};
    std::array<char, 512> text{};

    static Farewell of(CommunicationError const& why) {
        Farewell f{.witness = why.witness};
        f.count = static_cast<std::int32_t>(std::min(why.ranks.size(), f.ranks.size()));
        std::copy_n(why.ranks.begin(), f.count, f.ranks.begin());
        std::string_view(why.what()).copy(f.text.data(), f.text.size() - 1);
        return f;
    }
    CommunicationError error() const {
        return CommunicationError(text.data(), {ranks.begin(), ranks.begin() + count}, witness);
    }
};

/// This process's MPI: headers of the contract on one duplicate of MPI_COMM_WORLD, payload on another, what
/// ranks tell each other at any time on a third. Parts of the world are told apart by tags. All MPI calls are
/// made under one lock, and none of them blocks but the first and last.
class World {
  public:
    explicit World(double limit) : limit_seconds(limit) {
        int initialised = 0, finalised = 0, level = 0;
        MPI_Initialized(&initialised);
        MPI_Finalized(&finalised);
        check<UsageError>(!finalised, "MPI was finalised: join it once in a process");
        if (initialised) MPI_Query_thread(&level);
        else MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level);
        check(level >= MPI_THREAD_SERIALIZED,
              "this MPI serves only one thread; Plait needs MPI_THREAD_SERIALIZED");
        finalises_ = !initialised;
        MPI_Comm_dup(MPI_COMM_WORLD, &heads_);
        MPI_Comm_dup(MPI_COMM_WORLD, &payload_);
        MPI_Comm_dup(MPI_COMM_WORLD, &notices_);
        MPI_Comm_rank(heads_, &rank);
        MPI_Comm_size(heads_, &size);
    }

    ~World() {
        Backoff backoff;
        for (auto& end : leaving_) {
            if (end.later && !failed()) tell(end);
        }
        while (!failed() && !left()) backoff.pause();
        bool all_end = !failed() || all_have_ended();
        leaving_.clear();
        if (!all_end) return;  // MPI_Finalize would wait; mpirun ends the job when this process exits
        MPI_Comm_free(&notices_);
        MPI_Comm_free(&payload_);
        MPI_Comm_free(&heads_);
        if (finalises_) MPI_Finalize();
    }

    double const limit_seconds;
    int rank = 0, size = 1;
    int next_context =
        world_context + 1;  // tags of the next part; the rank's thread alone reads and writes it

    void send_head(Requests& requests, int to, int tag, Call const& call) {
        std::lock_guard lock(mutex_);
        MPI_Isend(&call, sizeof call, MPI_BYTE, to, tag, heads_, requests.add());
    }
    void recv_head(Requests& requests, int from, int tag, Call& call) {
        std::lock_guard lock(mutex_);
        MPI_Irecv(&call, sizeof call, MPI_BYTE, from, tag, heads_, requests.add());
    }
    void send(Requests& requests, int to, int tag, ConstView data) {
        pieces(data.bytes(), [&](std::int64_t at, int n) {
            MPI_Isend(data.data + at, n, MPI_BYTE, to, tag, payload_, requests.add());
        });
    }
    void recv(Requests& requests, int from, int tag, View data) {
        pieces(data.bytes(), [&](std::int64_t at, int n) {
            MPI_Irecv(data.data + at, n, MPI_BYTE, from, tag, payload_, requests.add());
        });
    }
    /// Whether all are done. Sees, too, whether another rank has failed.
    bool test(Requests& requests) {
        std::lock_guard lock(mutex_);
        hear();
        int done = 0;
        MPI_Testall(static_cast<int>(requests.all_.size()), requests.all_.data(), &done, MPI_STATUSES_IGNORE);
        return done != 0;
    }
    /// Cancels what can be cancelled; a message that is arriving gets a moment to end.
    void give_up(Requests& requests) {
        std::lock_guard lock(mutex_);
        for (auto& r : requests.all_) {
            if (r == MPI_REQUEST_NULL) continue;
            MPI_Cancel(&r);
            Backoff backoff;
            int done = 0;
            for (int i = 0; i < 100 && !done; ++i) {
                MPI_Test(&r, &done, MPI_STATUS_IGNORE);
                if (!done) backoff.pause();
            }
            if (!done) MPI_Request_free(&r);
        }
        requests.all_.clear();
    }

    /// Ends the world: tells all ranks `why`. The first failure counts.
    void fail(CommunicationError const& why) {
        std::lock_guard lock(mutex_);
        hear();
        if (failure_) return;
        failure_ = why;
        farewell_ = Farewell::of(why);
        for (int r = 0; r < size; ++r) {
            MPI_Request request;
            if (r == rank) continue;
            MPI_Isend(&farewell_, sizeof farewell_, MPI_BYTE, r, failure_tag, notices_, &request);
            MPI_Request_free(&request);
        }
    }
    bool failed() const {
        std::lock_guard lock(mutex_);
        return failure_.has_value();
    }
    void check_failure() const {
        std::lock_guard lock(mutex_);
        if (failure_) throw *failure_;
    }

    /// Of this rank's thread: whether it waits in a call from now on, which other ranks may ask.
    void waits(bool now) { waits_ += now ? 1 : -1; }
    /// Asks ranks whether they wait in a call.
    void ask(std::vector<int> const& ranks) {
        std::lock_guard lock(mutex_);
        for (int r : ranks) {
            waiting_.erase(r);
            notice(r, ask_tag);
        }
    }
    /// Whether rank `r`, which was asked, has said that it waits.
    bool waits(int r) {
        std::lock_guard lock(mutex_);
        hear();
        return waiting_.contains(r);
    }

    /// Tells rank `to` that a communicator has ended (`later`: when the world does), and expects the same of
    /// it before the world ends.
    void leave(int to, int tag, bool later) {
        if (failed()) return;
        auto& end = leaving_.emplace_back(*this, to, tag, later);
        if (!later) tell(end);
    }

  private:
    struct Leaving {
        Leaving(World& world, int t, int g, bool l) : to(t), tag(g), later(l), requests(world) {}
        int to, tag;
        bool later;
        Call mine{.verb = Verb::leave}, theirs;
        Requests requests;
    };
    void tell(Leaving& end) {
        send_head(end.requests, end.to, end.tag, end.mine);
        recv_head(end.requests, end.to, end.tag, end.theirs);
    }

    bool left() {
        std::erase_if(leaving_, [&](Leaving& end) { return test(end.requests); });
        return leaving_.empty();
    }

    /// After a failure: whether all ranks come to their end, which gives each the time to say what it saw
    /// before mpirun ends the job.
    bool all_have_ended() {
        std::list<Leaving> ends;
        for (int r = 0; r < size; ++r) {
            if (r != rank) tell(ends.emplace_back(*this, r, end_tag, false));
        }
        Backoff backoff;
        auto last = Operation::Clock::now() + std::chrono::seconds(1);
        while (Operation::Clock::now() < last) {
            std::erase_if(ends, [&](Leaving& end) { return test(end.requests); });
            if (ends.empty()) return true;
            backoff.pause();
        }
        return false;
    }

    template <class F>
    void pieces(std::int64_t bytes, F const& f) {
        constexpr std::int64_t most = 1 << 30;  // MPI counts in int
        std::lock_guard lock(mutex_);
        for (std::int64_t at = 0; at < bytes; at += most) f(at, static_cast<int>(std::min(most, bytes - at)));
    }

    void notice(int to, int tag) {
        MPI_Request request;
        MPI_Isend(nullptr, 0, MPI_BYTE, to, tag, notices_, &request);
        MPI_Request_free(&request);
    }

    /// Takes what others have told, and answers.
    void hear() {
        for (;;) {
            int there = 0;
            MPI_Status status;
            MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, notices_, &there, &status);
            if (!there) return;
            auto const from = status.MPI_SOURCE, tag = status.MPI_TAG;
            Farewell theirs;
            MPI_Recv(&theirs, sizeof theirs, MPI_BYTE, from, tag, notices_, MPI_STATUS_IGNORE);
            if (tag == failure_tag && !failure_) failure_ = theirs.error();
            if (tag == ask_tag && waits_ > 0) notice(from, answer_tag);
            if (tag == answer_tag) waiting_.insert(from);
        }
    }

    mutable std::mutex mutex_;
    MPI_Comm heads_ = MPI_COMM_NULL, payload_ = MPI_COMM_NULL, notices_ = MPI_COMM_NULL;
    bool finalises_ = false;
    std::optional<CommunicationError> failure_;
    Farewell farewell_;
    std::list<Leaving> leaving_;
    std::atomic<int> waits_ = 0;
    std::set<int> waiting_;  // of the ranks that were asked last
};

inline Requests::~Requests() { world_.give_up(*this); }

}  // namespace plait::mpi
