#pragma once

#include "cuda/board.hpp"
#include "cuda/wire.hpp"
#include "plait/comm/communicator.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <thread>

namespace plait::cuda {

struct StreamOptions {
    /// How long a call may stay as it is, while someone waits, before the world fails.
    double limit_seconds = 300;
    /// How long after a failure the work on its way is ended from outside the thread that calls, which may
    /// wait in CUDA for just that work.
    double abort_seconds = 3;
    /// Sums over ranks in the order of ordered_combine, which no library promises. Without it they have
    /// whatever order the library finds fastest (bits = "fast").
    bool ordered = true;
    /// Calls with host memory between two checks that all ranks made the same calls.
    int check_every = 64;
    /// Device memory, at most, that an ordered sum takes at a time.
    std::int64_t scratch_bytes = std::int64_t{64} << 20;
};

class StreamWorld;

/// A stream for the calls of one kind, and how far the GPU has come in them: beside the stream it writes the
/// mark of the call that it begins, and 0 when that has ended, so that no call waits for that.
class Track {
  public:
    /// `context` and `rank` tell whose calls, `members` are those of the communicator.
    Track(StreamWorld& world, std::string context, int rank, Members members);
    /// Waits for what was put on the stream, unless the world has failed.
    ~Track();
    Track(Track const&) = delete;
    Track& operator=(Track const&) = delete;

    /// Everything that is put on the stream between begin and end belongs to `call`, and comes after
    /// `before`.
    void begin(Call const& call, Machine::Event before);
    Machine::Event end();

    /// Of the call that is under way, or 0; any thread.
    std::uint32_t mark() const;
    /// The call that a mark is of; any thread.
    Call call_of(std::uint32_t mark) const;

    std::string const context;
    int const rank;
    Members const members;
    Machine::Stream const stream;

    /// Calls that are told apart. Those of recordings, whose marks come again with each replay, have others.
    static constexpr std::uint32_t call_marks = 1024, recorded_marks = 1 << 16,
                                   mark_count = call_marks + recorded_marks;

  private:
    std::uint32_t next_mark(Call const& call);
    void write_mark(std::uint32_t mark, Machine::Event at);

    StreamWorld& world_;
    Machine::Stream const marker_;
    std::shared_ptr<std::byte[]> mark_;
    std::uint32_t recorded_ = 0;
    mutable std::mutex mutex_;
    std::vector<Call> calls_;  // by mark, from 1 on
};

/// What all communicators of one world on GPUs share: the machine, the board, how the world failed, and who
/// looks after calls that do not end. One thread calls it, save where noted.
class StreamWorld {
  public:
    /// `place` says how to reach the board. The world of one rank has none.
    StreamWorld(std::shared_ptr<Machine> machine, Place place, StreamOptions options,
                std::unique_ptr<BoardServer> server = nullptr);
    ~StreamWorld();

    Machine& machine() const { return *machine_; }
    StreamOptions const& options() const { return options_; }
    int rank() const { return place_.rank; }
    int size() const { return place_.size; }
    /// Of more than one rank.
    Board& board() { return *board_; }
    /// Device memory that holds the numbers 0, 1, 2, ...: what tracks mark with.
    std::byte* numbers() const { return numbers_.get(); }

    /// Throws the world's failure, if it has failed.
    void check();
    /// The first failure; any thread.
    std::optional<CommunicationError> failure() const;
    /// Ends the world for all ranks; throws its first failure.
    [[noreturn]] void fail(CommunicationError const& why);
    /// The same, where nothing may be thrown.
    void tell(CommunicationError const& why) noexcept;
    /// Returns when `done` holds; moves messages on meanwhile. Calls overdue(), which throws, after the
    /// limit.
    void wait(std::function<bool()> const& done, std::function<void()> const& overdue);

    /// `poll` is called while this rank waits for anything.
    int add_poll(std::function<void()> poll);
    void remove_poll(int number) { polls_.erase(number); }

    /// Links are asked for errors, aborted when the world fails, and live as long as it: recordings of a step
    /// may hold their work after their communicators have ended, and NCCL's must not go before those.
    template <class L>
    L& keep(std::unique_ptr<L> link) {
        auto& kept = *link;
        add(std::move(link));
        return kept;
    }

  private:
    friend Track;
    using Clock = std::chrono::steady_clock;
    struct Watched {
        Track* track;
        std::uint32_t mark = 0;  // as it was last seen
        Clock::time_point since{};
    };

    void add(std::unique_ptr<Link> link);
    void add(Track& track);
    void remove(Track& track);
    /// One that no track has any more, or a new one: streams are few, and none can be given back.
    Machine::Stream take_stream(std::string const& name);
    void watch(double waited);
    void look();
    /// Ends the world where this thread unwinds and what it waits for does not go on.
    void give_up();
    /// Finds out who is missing from what `watched` waits in. With `may_wait` others may be left to tell.
    void overdue(Watched const& watched, bool may_wait);
    std::string status() const;
    void listen();
    void hear(std::string const& news);
    void hear(CommunicationError const& why);
    void abort_all() noexcept;
    /// Parts from the others, within the limit.
    void leave() noexcept;

    std::shared_ptr<Machine> const machine_;
    Place const place_;
    StreamOptions const options_;
    int const exceptions_;
    std::unique_ptr<BoardServer> server_;  // of rank 0
    std::shared_ptr<std::byte[]> numbers_;
    std::vector<Machine::Stream> spare_streams_;
    std::map<int, std::function<void()>> polls_;
    int next_poll_ = 0, watcher_ = 0;
    Clock::time_point look_at_{}, ask_at_{};

    mutable std::mutex mutex_;  // of what follows
    std::list<Watched> watched_;
    std::vector<std::unique_ptr<Link>> links_;  // none goes before the world
    std::optional<CommunicationError> failure_;

    std::atomic<bool> failed_ = false, aborted_ = false, closing_ = false;
    std::unique_ptr<Board> board_, news_;
    std::thread listener_;
};

}  // namespace plait::cuda
