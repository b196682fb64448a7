#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "catch.hpp"
#include "comm/verbs.hpp"
#include "plait/comm/threads.hpp"

using namespace plait;
using Clock = std::chrono::steady_clock;

namespace {
enum class Fault { skipped, wrong_size, wrong_op, stopped, early_return };
constexpr int fault_kinds = 5;
struct Returned {};

/// Does one call wrong; until then passes all on.
class FaultyCommunicator final : public Communicator {
  public:
    /// `seen` ends the wait of a stopped rank.
    FaultyCommunicator(Communicator& inner, Fault fault, int at, std::function<void(Call const&)> happens,
                       std::atomic<bool> const& seen)
        : Communicator(inner.rank(), inner.size(), inner.name()),
          inner_(inner),
          fault_(fault),
          at_(at),
          happens_(std::move(happens)),
          seen_(seen) {}

    Pending start(Call call, ConstView in, View out) override {
        if (calls_++ != at_) return inner_.start(call, in, out);
        happens_(call);
        switch (fault_) {
            case Fault::skipped:
                return {};
            case Fault::wrong_size:
                call.count += 1;
                break;
            case Fault::wrong_op:
                call.verb = call.verb == Verb::barrier ? Verb::all_reduce : Verb::barrier;
                call.peer = -1;
                break;
            case Fault::stopped:
                while (!seen_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
                throw Returned{};
            case Fault::early_return:
                throw Returned{};
        }
        return inner_.start(call, in, out);
    }

  protected:
    std::unique_ptr<Communicator> part(Part const&) override { fail("these tests do not split"); }

  private:
    Communicator& inner_;
    Fault fault_;
    int at_, calls_ = 0;
    std::function<void(Call const&)> happens_;
    std::atomic<bool> const& seen_;
};

/// One of a few calls, each with its site, as an executor makes them; messages go round a ring.
void step(Communicator& c, std::vector<float>& x, std::vector<float>& y, std::uint64_t site) {
    auto one = std::span(x).first(8);
    int n = c.size(), next = (c.rank() + 1) % n, before = (c.rank() + n - 1) % n;
    switch (site % 6) {
        case 0:
            return c.all_reduce(std::span(x), Combine::sum, site).wait();
        case 1:
            return c
                .reduce_scatter(std::span(x).first(static_cast<std::size_t>(8 * n)), std::span(y).first(8),
                                Combine::sum, site)
                .wait();
        case 2:
            return c.all_gather(one, std::span(y).first(static_cast<std::size_t>(8 * n)), site).wait();
        case 3:
            return c.broadcast(one, 0, site).wait();
        case 4:
            return c.barrier(site).wait();
        default: {
            auto sent = c.send(one, next, site);
            c.recv(std::span(y).first(8), before, site).wait();
            return sent.wait();
        }
    }
}

struct Trial {
    int size, faulty, at;
    Fault fault;
};

constexpr double limit = 0.4;

/// Empty if the survivors of a fault all report it, and in time.
std::string report(Trial const& t) {
    std::atomic<bool> seen{false};
    std::mutex mutex;
    std::string why;
    Call wrong;
    Clock::time_point start{}, end{};
    int survivors = 0;
    auto happens = [&](Call const& call) {
        std::lock_guard lock(mutex);
        start = Clock::now();
        wrong = call;
    };
    auto rank = [&](Communicator& c) {
        FaultyCommunicator faulty(c, t.fault, c.rank() == t.faulty ? t.at : -1, happens, seen);
        std::vector<float> x(64), y(64);
        try {
            for (std::uint64_t site = 1; site <= 14; ++site) step(faulty, x, y, site);
        } catch (Returned const&) {
        } catch (CommunicationError const&) {
            std::lock_guard lock(mutex);
            end = Clock::now();
            if (c.rank() != t.faulty && ++survivors == t.size - 1) seen = true;
            throw;
        }
    };
    try {
        run_ranks(t.size, rank, {.limit_seconds = limit, .hung = [](std::string const&) {}});
        return "nobody saw it";
    } catch (CommunicationError const& e) {
        why = e.what();
    } catch (Error const& e) {
        return fmt::format("another error: {}", e.what());
    }
    auto seconds = std::chrono::duration<double>(end - start).count();
    if (survivors != t.size - 1)
        return fmt::format("{} of {} survivors saw it: {}", survivors, t.size - 1, why);
    if (seconds > limit + 1) return fmt::format("after {} s: {}", seconds, why);
    if (why.find(fmt::format("rank {}", t.faulty)) == why.npos) return fmt::format("no rank: {}", why);
    if (why.find("call ") == why.npos && why.find("message ") == why.npos)
        return fmt::format("no number: {}", why);
    // A call left out or gone is seen at the next one that the others meet it in.
    bool exact = t.fault == Fault::wrong_size && !wrong.is_message();
    bool any = false;
    for (int v = 0; v < verb_count; ++v) any |= why.find(name_of(static_cast<Verb>(v))) != why.npos;
    if (!any || (exact && why.find(name_of(wrong.verb)) == why.npos)) return fmt::format("no op: {}", why);
    return "";
}

/// f(i) for i < count, on four threads.
template <class F>
void concurrently(int count, F const& f) {
    std::atomic<int> next{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = next++; i < count; i = next++) f(i);
        });
    }
    for (auto& t : threads) t.join();
}
}  // namespace

TEST_CASE("500 faults are all reported in time, with rank, op and number", "[alone]") {
    std::vector<std::string> failures(500);
    concurrently(500, [&](int i) {
        auto bits = mix(static_cast<std::uint64_t>(i));
        Trial t{.size = 2 + static_cast<int>(bits % 3),
                .faulty = 0,
                .at = 0,
                .fault = static_cast<Fault>(i % fault_kinds)};
        t.faulty = static_cast<int>(bits / 7 % static_cast<unsigned>(t.size));
        t.at = static_cast<int>(bits / 101 % 14);
        auto what = report(t);
        if (!what.empty()) {
            failures[static_cast<std::size_t>(i)] =
                fmt::format("fault {} of rank {} of {} at {}: {}", static_cast<int>(t.fault), t.faulty,
                            t.size, t.at, what);
        }
    });
    std::string all;
    for (auto const& f : failures) all += f.empty() ? "" : f + "\n";
    CHECK(all == "");
}

TEST_CASE("2000 clean steps with jitter report nothing", "[alone]") {
    std::array<std::string, 4> failures;
    concurrently(4, [&](int i) {
        auto rank = [&](Communicator& c) {
            std::vector<float> x(64), y(64);
            auto part = c.split(c.rank() % 2, 0, "part");
            for (std::uint64_t site = 1; site <= 500; ++site) {
                auto bits = mix(site * 8 + static_cast<std::uint64_t>(c.rank()));
                if (bits % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(bits / 3 % 300));
                step(c, x, y, site);
                auto reduced = part->all_reduce(std::span(x), Combine::max, site);
                c.barrier(site).wait();
                reduced.wait();
            }
        };
        try {
            run_ranks(2 + i % 3, rank, {.limit_seconds = 20});
        } catch (std::exception const& e) {
            failures[static_cast<std::size_t>(i)] = e.what();
        }
    });
    for (auto const& f : failures) CHECK(f == "");
}
