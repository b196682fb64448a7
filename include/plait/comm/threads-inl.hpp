#pragma once

#include "plait/comm/self.hpp"
#include "plait/comm/thread_group-inl.hpp"
#include "plait/comm/threads.hpp"

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>

namespace plait {

namespace detail {

class ThreadCommunicator final : public Communicator, Watch {
  public:
    ThreadCommunicator(std::shared_ptr<ThreadGroup> group, int rank, bool part)
        : Communicator(rank, group->size(), group->members().name),
          group_(std::move(group)),
          part_(part),
          exceptions_(std::uncaught_exceptions()),
          progress_(std::make_unique<ProgressThread>([this](Operation& op) { run(op); })) {}

    ~ThreadCommunicator() override {
        // A part leaves it to its world to tell: whoever catches the exception there knows the message.
        bool thrown = std::uncaught_exceptions() > exceptions_;
        if (thrown && !part_) unwinding(nullptr);
        for (auto const& weak : posted_) {
            if (auto op = weak.lock()) op->settle();
        }
        progress_.reset();
        if (!thrown) group_->leave(rank());
    }

    Pending start(Call call, ConstView in, View out) override {
        bool message = call.is_message();
        if (!message) call.number = ++collectives_;
        Watch& watch = *this;
        auto op = std::make_shared<Operation>(call, in, out, watch, group_->world().options.limit_seconds);
        std::erase_if(posted_, [](auto const& weak) { return weak.expired(); });
        posted_.push_back(op);
        if (message) group_->message(rank(), op, traffic_);
        else progress_->post(op);
        return Pending(op);
    }

  protected:
    std::unique_ptr<Communicator> part(Part const& p) override {
        if (p.ranks.size() == 1) return std::make_unique<SelfCommunicator>(p.name);
        auto const& parent = group_->members();
        Members members{.name = p.name, .world = {}, .world_size = parent.world_size};
        for (int r : p.ranks) members.world.push_back(parent.world[static_cast<std::size_t>(r)]);
        auto group = group_->part(collectives_, p.color, std::move(members));
        return std::make_unique<ThreadCommunicator>(std::move(group), p.rank, true);
    }

  private:
    void run(Operation& op) {
        auto bytes = group_->collective(rank(), op);
        traffic_.add(op.call.verb, op.call.dtype, op.call.verb == Verb::split ? 0 : bytes);
        op.complete(group_->world().ready());
    }
    void overdue(Operation const& op) noexcept override { group_->overdue(rank(), op); }
    void unwinding(Call const* during) noexcept override {
        group_->world().fail(group_->members().unwinding(rank(), during));
    }

    std::shared_ptr<ThreadGroup> const group_;
    bool const part_;
    int const exceptions_;
    std::uint64_t collectives_ = 0;
    std::vector<std::weak_ptr<Operation>> posted_;
    std::unique_ptr<ProgressThread> progress_;
};

/// The ranks of run_ranks that still run, and the first failure that is not just the news of another.
struct RankThreads {
    std::mutex mutex;
    std::condition_variable returned;
    int running = 0;
    int failed_rank = -1;
    bool news_only = false;
    std::exception_ptr failure;

    void record(int rank, std::exception_ptr error, bool news) {
        std::lock_guard lock(mutex);
        if (failed_rank >= 0 && !(news_only && !news)) return;
        failed_rank = rank, news_only = news, failure = std::move(error);
    }
};

[[noreturn]] inline void end_hung_process(std::string const& failure) {
    std::fprintf(stderr, "error: %s\nerror: a rank did not return after that; ending the process\n",
                 failure.c_str());
    std::fflush(nullptr);
    std::_Exit(1);
}

}  // namespace detail

PLAIT_INLINE ThreadWorld::ThreadWorld(int size, ThreadOptions options) {
    check<UsageError>(size >= 1, "a world of {} ranks: use 1 or more", size);
    Members members{
        .name = "world", .world = std::vector<int>(static_cast<std::size_t>(size)), .world_size = size};
    std::iota(members.world.begin(), members.world.end(), 0);
    auto state = std::make_shared<detail::ThreadWorldState>(std::move(options));
    group_ = state->make_group(std::move(members));
}

PLAIT_INLINE int ThreadWorld::size() const { return group_->size(); }

PLAIT_INLINE std::unique_ptr<Communicator> ThreadWorld::join(int rank) {
    check<UsageError>(rank >= 0 && rank < size(), "rank {} joins a world of {}", rank, size());
    return std::make_unique<detail::ThreadCommunicator>(group_, rank, false);
}

PLAIT_INLINE void ThreadWorld::fail(CommunicationError const& why) { group_->world().fail(why); }

PLAIT_INLINE std::string ThreadWorld::failure() const {
    std::lock_guard lock(group_->world().mutex);
    auto const& failure = group_->world().failure;
    return failure ? failure->what() : "";
}

PLAIT_INLINE void run_ranks(int size, std::function<void(Communicator&)> const& f, ThreadOptions options) {
    if (size == 1) {
        SelfCommunicator self;
        return f(self);
    }
    ThreadWorld world(size, options);
    detail::RankThreads ranks;
    ranks.running = size;
    auto run = [&](int rank) {
        auto communicator = world.join(rank);
        try {
            f(*communicator);
        } catch (CommunicationError const& e) {
            ranks.record(rank, std::current_exception(), true);
            world.fail(e);
        } catch (std::exception const& e) {
            ranks.record(rank, std::current_exception(), false);
            world.fail(failure_of_rank(rank, e.what()));
        } catch (...) {
            ranks.record(rank, std::current_exception(), false);
            world.fail(failure_of_rank(rank, "an exception of unknown type"));
        }
        communicator.reset();
        std::lock_guard lock(ranks.mutex);
        --ranks.running;
        ranks.returned.notify_all();
    };
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r) threads.emplace_back(run, r);
    {
        std::unique_lock lock(ranks.mutex);
        ranks.returned.wait(lock, [&] { return ranks.running == 0 || ranks.failed_rank >= 0; });
        if (!ranks.returned.wait_for(lock, std::chrono::duration<double>(options.limit_seconds),
                                     [&] { return ranks.running == 0; })) {
            lock.unlock();
            (options.hung ? options.hung : detail::end_hung_process)(world.failure());
        }
    }
    for (auto& t : threads) t.join();
    if (ranks.failure) rethrow_of_rank(ranks.failed_rank, ranks.failure);
}

}  // namespace plait
