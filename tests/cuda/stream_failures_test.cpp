#include "host_wire.hpp"

#include "catch.hpp"

using namespace plait;
using namespace tests;

namespace {

struct Floats {
    Floats(HostRank& one, std::int64_t n) : memory(one.machine.allocate(4 * n)), view(memory.get(), n, f32) {}
    std::shared_ptr<std::byte[]> memory;
    View view;
};

/// Ranks whose device does nothing before someone waits for it.
HostRanks impatient(double limit) {
    HostRanks how;
    how.options.limit_seconds = limit;
    how.goes_on = false;
    return how;
}

void rest(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

double seconds_of(std::function<void()> const& f) {
    auto const begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Lanes that part, or end, when the last of them has been told to.
struct Counts {
    int lanes = 0;
    std::atomic<int> aborts = 0, leaves = 0;
};
class NotedLane final : public gpu::Lane {
  public:
    explicit NotedLane(Counts& counts) : counts_(counts) { ++counts_.lanes; }
    bool ready() override { return true; }
    void send(int, std::byte const*, std::int64_t) override {}
    void recv(int, std::byte*, std::int64_t) override {}
    void abort() noexcept override { ++counts_.aborts; }
    void leave() noexcept override { ++counts_.leaves; }
    bool ended() noexcept override {
        return counts_.aborts == counts_.lanes || counts_.leaves == counts_.lanes;
    }

  private:
    Counts& counts_;
};

}  // namespace

TEST_CASE("ranks that called other collectives are told at the next check") {
    auto failures = failures_of(
        3,
        [](HostRank& one) {
            auto& c = one.communicator;
            Floats x(one, 64), all(one, 192);
            c.broadcast(x.view, 0).wait();
            if (c.rank() == 1) c.all_gather(x.view, all.view).wait();
            else c.all_reduce(x.view, Combine::max).wait();
            c.split(0, 0, "half");
        },
        impatient(20));
    for (auto const& f : failures)
        CHECK(f == "world: rank 1 calls all_gather of 64 f32 as call 2, rank 0 all_reduce of 64 f32 by max");
}

TEST_CASE("what a part calls is compared where its ranks check") {
    auto failures = failures_of(
        4,
        [](HostRank& one) {
            auto& c = one.communicator;
            auto half = c.split(c.rank() / 2, 0, "half");
            auto& part = static_cast<gpu::StreamCommunicator&>(*half);
            Floats x(one, 8);
            part.all_reduce(x.view, Combine::sum, c.rank() == 3 ? 7 : 6).wait();
            part.verify();
        },
        impatient(20));
    for (int r : {2, 3})
        CHECK(failures[static_cast<std::size_t>(r)] ==
              "half: rank 1 (world rank 3) calls all_reduce of 8 f32 at site 7 as call 1, rank 0 (world "
              "rank 2) all_reduce of 8 f32 at site 6");
}

TEST_CASE("calls on host memory are checked every so often") {
    auto how = impatient(20);
    how.options.check_every = 4;
    how.goes_on = true;
    auto run = [&](int wrong) {
        return failures_of(
            2,
            [&](HostRank& one) {
                auto& c = one.communicator;
                Floats x(one, 8);
                std::vector<float> y(8);
                for (int i = 0; i < 8; ++i) {
                    // Not waited for, or the host's wire would compare them itself.
                    auto device = c.all_reduce(x.view, Combine::sum, i == wrong ? c.rank() : 9);
                    c.broadcast(std::span(y), 0).wait();
                    device.wait();
                }
            },
            how);
    };
    for (auto const& f : run(-1)) CHECK(f == "");
    for (auto const& f : run(5))
        CHECK(f ==
              "world: rank 1 calls all_reduce of 8 f32 at site 1 as call 11, rank 0 all_reduce of 8 f32");
}

TEST_CASE("messages that do not match are told at the next check") {
    auto failures = failures_of(
        3,
        [](HostRank& one) {
            auto& c = one.communicator;
            Floats x(one, 64), y(one, 32);
            Pending message;
            if (c.rank() == 0) message = c.send(x.view, 1);
            if (c.rank() == 1) message = c.recv(y.view, 0);
            c.verify();
            message.wait();
        },
        impatient(20));
    for (int r : {0, 1})
        CHECK_THAT(failures[static_cast<std::size_t>(r)],
                   ContainsSubstring("calls send of 64 f32 to rank 1 as message 1, rank 1 recv of 32 f32") ||
                       ContainsSubstring("calls recv of 32 f32 from rank 0 as message 1, rank 0 send of 64"));
}

TEST_CASE("a message that one side has yet to come to is no mismatch") {
    auto failures = failures_of(2, [](HostRank& one) {
        auto& c = one.communicator;
        Floats x(one, 8), y(one, 8);
        for (int i = 0; i < 3; ++i) {
            Pending first, second;
            if (c.rank() == 0) first = c.send(x.view, 1), second = c.send(y.view, 1, 5);
            c.verify();
            if (c.rank() == 1) first = c.recv(x.view, 0), second = c.recv(y.view, 0, 5);
            first.wait(), second.wait();
        }
        c.verify();
        one.machine.finish();
    });
    for (auto const& f : failures) CHECK(f == "");
}

TEST_CASE("who does not come to a collective is found by those who wait on their GPUs") {
    bool const replayed = GENERATE(false, true);
    CAPTURE(replayed);
    auto failures = failures_of(
        3,
        [&](HostRank& one) {
            auto& c = one.communicator;
            Floats x(one, 8), y(one, 8);
            std::unique_ptr<RecordedStep> step;
            auto ask = [&] {
                c.all_reduce(x.view, Combine::sum).wait();
                c.all_reduce(y.view, Combine::max).wait();
            };
            ask();
            one.machine.finish();
            if (replayed) {
                one.machine.begin_recording();
                ask();
                step = one.machine.end_recording();
                step->replay();
                one.machine.finish();
            }
            if (c.rank() == 1) rest(2);
            else if (replayed) step->replay();
            else ask();
            one.machine.finish();
            c.barrier().wait();
        },
        impatient(0.4));
    for (auto const& f : failures)
        CHECK(f ==
              "world: rank 1 is missing from all_reduce of 8 f32, call 3, where rank 0, rank 2 wait, after "
              "0.4 s");
}

TEST_CASE("of ranks that wait for each other the one that waits for nobody is missing") {
    auto failures = failures_of(
        3,
        [&](HostRank& one) {
            auto& c = one.communicator;
            Floats x(one, 8);
            // All lanes are there.
            if (c.rank() == 1) c.send(x.view, 2).wait();
            if (c.rank() == 2) c.recv(x.view, 1).wait();
            one.machine.finish();
            c.barrier().wait();
            one.machine.finish();
            if (c.rank() == 1) rest(2);
            if (c.rank() == 2) c.recv(x.view, 1).wait();
            one.machine.finish();
            if (c.rank() == 0) c.all_reduce(x.view, Combine::sum).wait();
            one.machine.finish();
        },
        impatient(0.4));
    for (int r : {0, 2})
        CHECK_THAT(failures[static_cast<std::size_t>(r)],
                   ContainsSubstring("world: rank 1 is missing from ") &&
                       (ContainsSubstring("recv of 8 f32 from rank 1, message 2, where rank 2 waits") ||
                        ContainsSubstring("; rank 2 waits in world: recv of 8 f32 from rank 1, message 2")));
}

TEST_CASE("who does not come to a check, a part or a first message is missing too") {
    int const where = GENERATE(0, 1);
    auto failures = failures_of(
        3,
        [&](HostRank& one) {
            auto& c = one.communicator;
            Floats x(one, 8);
            if (c.rank() == 1) rest(1.5);
            else if (where == 0) c.split(0, 0, "half");
            else if (c.rank() == 0) c.recv(x.view, 1).wait();
            c.barrier().wait();
        },
        impatient(0.3));
    CAPTURE(where);
    for (auto const& f : failures)
        CHECK_THAT(f, where == 0
                          ? ContainsSubstring("world: rank 1 is missing from split, call 1, where rank 0, "
                                              "rank 2 wait, after 0.3 s")
                          : ContainsSubstring("world: rank 1 is missing from "));
}

TEST_CASE("a rank whose process ends is news for the others at once") {
    auto failures = failures_of(3, [](HostRank& one) {
        auto& c = one.communicator;
        Floats x(one, 8);
        if (c.rank() == 1) {
            one.world.board().vanish();
            rest(0.5);
            return;
        }
        c.all_reduce(x.view, Combine::sum).wait();
        one.machine.finish();
    });
    CHECK(failures[0] == "world: rank 1 has gone: its process has ended");
    CHECK(failures[2] == failures[0]);
}

TEST_CASE("an exception of one rank ends the others, in what they do and what they do next") {
    auto failures = failures_of(3, [](HostRank& one) {
        auto& c = one.communicator;
        auto part = c.split(0, 0, "data");
        Floats x(one, 8);
        if (c.rank() == 1) fail("no more disk");
        std::string first;
        try {
            part->all_reduce(x.view, Combine::sum).wait();
            one.machine.finish();
        } catch (CommunicationError const& e) {
            first = e.what();
        }
        check(first == "world: rank 1 ends by an exception", "{}", first);
        part->barrier().wait();
    });
    CHECK(failures[1] == "no more disk");
    for (int r : {0, 2}) CHECK(failures[static_cast<std::size_t>(r)] == "world: rank 1 ends by an exception");
}

TEST_CASE("who is told of a failure from outside ends all ranks by it") {
    auto failures = failures_of(2, [](HostRank& one) {
        if (one.communicator.rank() == 1) one.communicator.fail(failure_of_rank(1, "no more disk"));
        one.communicator.barrier().wait();
    });
    for (auto const& f : failures) CHECK(f == "rank 1 failed: no more disk");
}

TEST_CASE("who unwinds while its GPU needs a rank that needs it ends the world at once") {
    // By what the exception meets: memory, which waits for the GPU before it goes, or a call on its way.
    bool const of_memory = GENERATE(true, false);
    CAPTURE(of_memory);
    std::vector<std::string> failures;
    auto const took = seconds_of([&] {
        failures = failures_of(
            2,
            [&](HostRank& one) {
                auto& c = one.communicator;
                Floats x(one, 8), y(one, 8);
                if (c.rank() == 0) c.recv(x.view, 1).wait();
                else c.send(x.view, 0).wait();
                one.machine.finish();
                c.barrier().wait();
                if (c.rank() == 0) {
                    // The sum comes after a message that nobody sends.
                    c.recv(x.view, 1).wait();
                    c.all_reduce(y.view, Combine::sum).wait();
                    return one.machine.finish();
                }
                try {
                    std::optional<Floats> z;
                    if (of_memory) z.emplace(one, 8);
                    auto sum = c.all_reduce(y.view, Combine::sum);
                    if (of_memory) sum.wait();
                    fail("no more disk");
                } catch (Error const&) {
                    check(one.world.failure().has_value(), "the others have not been told");
                    throw;
                }
            },
            impatient(8));
    });
    CHECK(failures[1] == "no more disk");
    CHECK_THAT(failures[0], ContainsSubstring("world: rank 1 ends by an exception"));
    CHECK(took < 6);
}

TEST_CASE("a rank that waits where nobody looks is freed from what it waits for") {
    Counts counts;
    auto how = impatient(8);
    how.options.abort_seconds = 0.2;
    auto failures = failures_of(
        2,
        [&](HostRank& one) {
            if (one.communicator.rank() == 1) {
                rest(0.1);
                one.communicator.fail(failure_of_rank(1, "no more disk"));
                return;
            }
            for (int i = 0; i < 3; ++i) one.world.keep<gpu::Lane>(std::make_unique<NotedLane>(counts));
            // As in a call of CUDA that waits for the GPU.
            for (int i = 0; i < 500 && counts.aborts < counts.lanes; ++i) rest(0.01);
            check(counts.aborts == counts.lanes, "nobody ended what this rank waits for");
            one.communicator.barrier().wait();
        },
        how);
    CHECK(failures[0] == "rank 1 failed: no more disk");
}

TEST_CASE("links end together, and part together") {
    bool const fails = GENERATE(true, false);
    CAPTURE(fails);
    Counts counts;
    auto const took = seconds_of([&] {
        failures_of(
            2,
            [&](HostRank& one) {
                if (one.communicator.rank() == 1) return;
                for (int i = 0; i < 3; ++i) one.world.keep<gpu::Lane>(std::make_unique<NotedLane>(counts));
                if (fails) one.communicator.fail(failure_of_rank(0, "no more disk"));
            },
            impatient(3));
    });
    CHECK(counts.aborts == (fails ? 3 : 0));
    CHECK(counts.leaves == (fails ? 0 : 3));
    CHECK(took < 1.5);
}

TEST_CASE("a wait is not taken for the one before it") {
    // Rank 0 waits for a message of rank 1, which waits for one of rank 2, in every replay. That the first
    // two waits of rank 0 were long ago says nothing of the third.
    auto failures = failures_of(
        3,
        [&](HostRank& one) {
            auto& c = one.communicator;
            Floats x(one, 8);
            auto slow = std::make_shared<double>(0);
            auto& host = dynamic_cast<gpu::HostMachine&>(one.machine);
            auto ask = [&] {
                if (c.rank() == 0)
                    host.post(gpu::Machine::kernels, [slow] {
                        rest(*slow);
                        return [] { return true; };
                    });
                if (c.rank() < 2) c.recv(x.view, c.rank() + 1).wait();
                if (c.rank() > 0) c.send(x.view, c.rank() - 1).wait();
            };
            ask();
            one.machine.finish();
            one.machine.begin_recording();
            ask();
            auto const step = one.machine.end_recording();
            for (int i = 0; i < 2; ++i) {
                c.barrier().wait();
                if (c.rank() == 2) rest(0.02);
                step->replay();
                one.machine.finish();
                rest(0.4);
            }
            // The first look comes later in this wait than the last one in those.
            *slow = 0.15;
            if (c.rank() == 2) rest(1.5);
            else step->replay();
            one.machine.finish();
            c.barrier().wait();
        },
        impatient(0.4));
    for (auto const& f : failures)
        CHECK_THAT(f,
                   ContainsSubstring("world: rank 2 is missing from recv of 8 f32 from rank 2, message 2"));
}

TEST_CASE("a call of a recording is told by its own name after many other calls") {
    auto failures = failures_of(
        2,
        [&](HostRank& one) {
            auto& c = one.communicator;
            Floats x(one, 8), y(one, 2);
            c.all_reduce(x.view, Combine::sum).wait();
            one.machine.finish();
            one.machine.begin_recording();
            c.all_reduce(x.view, Combine::sum).wait();
            auto const step = one.machine.end_recording();
            for (std::uint32_t i = 0; i < gpu::Track::call_marks; ++i) {
                c.broadcast(y.view, 0).wait();
                if (i % 128 == 0) one.machine.finish();
            }
            one.machine.finish();
            if (c.rank() == 1) rest(1);
            else step->replay();
            one.machine.finish();
            c.barrier().wait();
        },
        impatient(0.4));
    for (auto const& f : failures)
        CHECK(f ==
              "world: rank 1 is missing from all_reduce of 8 f32, call 2, where rank 0 waits, after 0.4 s");
}
