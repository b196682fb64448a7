#pragma once

#include "plait/comm/call.hpp"

#include <array>
#include <memory>
#include <mutex>

namespace plait {

/// What a transport keeps of a call on its way.
class Ticket {
  public:
    virtual ~Ticket() = default;
    virtual bool done() const = 0;
    /// Returns when the call is done; throws its error.
    virtual void wait() = 0;
    /// An exception unwinds the thread that waits next: unless the call is done in a moment, the world fails.
    virtual void abandon() noexcept = 0;
};

/// A call on its way. The memory that it reads and writes must stay, and not be touched, until wait() has
/// returned.
class [[nodiscard]] Pending {
  public:
    Pending() = default;  // a call that is done
    explicit Pending(std::shared_ptr<Ticket> ticket);
    Pending(Pending&&) noexcept = default;
    Pending& operator=(Pending&& other) noexcept;
    /// Waits, as the memory may go next; an error then shows at the next call. While an exception unwinds
    /// this thread the world is told, and ends.
    ~Pending();

    /// True when wait() would return at once.
    bool done() const { return !ticket_ || ticket_->done(); }
    /// Returns when the memory is ready. Throws CommunicationError where the ranks did not meet; see
    /// Communicator.
    void wait();

  private:
    void drop() noexcept;

    std::shared_ptr<Ticket> ticket_;
    int exceptions_ = 0;
};

/// What a rank has put on the wire by one verb in one dtype.
struct TrafficRow {
    Verb verb;
    DType dtype;
    std::int64_t calls = 0;
    std::int64_t bytes = 0;  // of payload, sent by this rank

    bool operator==(TrafficRow const&) const = default;
};
std::int64_t total_bytes(std::vector<TrafficRow> const& rows);

/// The counts of one communicator; transports add where they move the bytes, from any thread.
class TrafficTable {
  public:
    void add(Verb verb, DType dtype, std::int64_t bytes, std::int64_t calls = 1);
    std::vector<TrafficRow> rows() const;  // those with calls, by verb, then dtype
    void reset();

  private:
    struct Count {
        std::int64_t calls = 0, bytes = 0;
    };
    mutable std::mutex mutex_;
    std::array<std::array<Count, dtype_table.size()>, verb_count> counts_{};
};

/// Ranks that talk to each other. One thread calls the verbs of one communicator.
///
/// Every verb returns at once; collectives run in the order of their calls, messages of one rank to another
/// too, and no message waits for a collective or another pair's message. Errors show at Pending::wait(), save
/// those of the arguments alone (UsageError, ShapeError), which are thrown at once.
///
/// Contract: all ranks make the same collectives in the same order, with the same count, dtype, combination,
/// root and site, and the k-th send of a rank to another matches the k-th recv there. Each call is checked: a
/// mismatch is an error on every rank that names ranks, verbs and number; so is a rank that has left (its
/// communicator is gone), that has failed, or that has not come when another has waited for longer than the
/// time limit. A world that failed stays so: every call on it or on any part of it throws the first failure.
///
/// Sums over ranks run in one fixed order (see ordered_combine), whatever the transport.
///
/// Wire bytes are the payload that this rank sends, by the algorithm that every transport here uses; n =
/// size(), B = the bytes of the whole, b = those of a block. They are zero on one rank, and of headers of the
/// contract never count.
/// - all_reduce: B - p + (n - 1) p, where p is this rank's part of B (see part_of): 2 (n - 1) / n B when n
/// divides
/// - reduce_scatter, all_gather, all_to_all: (n - 1) b
/// - broadcast: (n - 1) B at the root, else 0
/// - send: B; recv, barrier, split: 0
///
/// `in` and `out` do not overlap, save in place: in = out for all_reduce; the out of reduce_scatter may be
/// block rank() of its in, the in of all_gather block rank() of its out.
class Communicator {
  public:
    Communicator(int rank, int size, std::string name) : rank_(rank), size_(size), name_(std::move(name)) {}
    virtual ~Communicator() = default;
    Communicator(Communicator const&) = delete;
    Communicator& operator=(Communicator const&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }
    /// "world", or what split was given: a mesh axis.
    std::string const& name() const { return name_; }

    /// The ranks of one `color` become a communicator, ordered by `key`, then rank. A collective that waits;
    /// a negative color gives none (null).
    virtual std::unique_ptr<Communicator> split(int color, int key, std::string name);

    /// [count] on every rank -> their combination [count] on every rank.
    Pending all_reduce(ConstView in, View out, Combine how, std::uint64_t site = 0);
    /// In place.
    Pending all_reduce(View data, Combine how, std::uint64_t site = 0) {
        return all_reduce(data, data, how, site);
    }
    /// [size, count] on every rank -> row rank() of their combination: [count].
    Pending reduce_scatter(ConstView in, View out, Combine how, std::uint64_t site = 0);
    /// [count] on every rank -> [size, count], row r from rank r, on every rank.
    Pending all_gather(ConstView in, View out, std::uint64_t site = 0);
    /// [size, count]: row r goes to rank r -> [size, count]: row r came from rank r.
    Pending all_to_all(ConstView in, View out, std::uint64_t site = 0);
    /// [count] of `root` -> every rank.
    Pending broadcast(View data, int root, std::uint64_t site = 0);
    /// [count] to recv on rank `to`; done when it has arrived there.
    Pending send(ConstView data, int to, std::uint64_t site = 0);
    Pending recv(View data, int from, std::uint64_t site = 0);
    /// Done when all ranks have come.
    Pending barrier(std::uint64_t site = 0);

    /// What all verbs come down to, their arguments checked; the transport gives the number. For decorators.
    virtual Pending start(Call call, ConstView in, View out) = 0;

    /// What this rank has sent since the last reset, of the calls that were waited for.
    std::vector<TrafficRow> traffic() const { return traffic_.rows(); }
    void reset_traffic() { traffic_.reset(); }
    /// Adds what was sent by calls that were recorded once and are done again.
    void add_traffic(std::vector<TrafficRow> const& rows) {
        for (auto const& r : rows) traffic_.add(r.verb, r.dtype, r.bytes, r.calls);
    }

  protected:
    struct Part {
        std::string name;
        std::vector<int> ranks;  // of this communicator, in the order of the new one
        int rank = 0;            // this rank's place among them
        int color = 0;
        std::int64_t context = 0;  // the largest that any rank proposed
    };
    /// The communicator of `part`, called on each of its ranks after a split.
    virtual std::unique_ptr<Communicator> part(Part const& part) = 0;
    /// What a split agrees on besides: a transport's next free number.
    virtual std::int64_t propose_context() { return 0; }

    TrafficTable traffic_;

  private:
    void check_peer(int peer, Verb verb) const;

    int rank_, size_;
    std::string name_;
};

/// Throws what `error` holds, its message naming `rank`; UsageError stays one.
[[noreturn]] void rethrow_of_rank(int rank, std::exception_ptr error);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/comm/communicator-inl.hpp"
#endif
