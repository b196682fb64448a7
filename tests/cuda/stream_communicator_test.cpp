#include "host_wire.hpp"

#include "../comm/verbs.hpp"
#include "catch.hpp"

using namespace plait;
using namespace tests;
using tests::expect;

namespace {

/// Nobody failed; else their words.
void require_well(std::vector<std::string> const& failures) {
    for (std::size_t r = 0; r < failures.size(); ++r) {
        INFO("rank " << r << ": " << failures[r]);
        REQUIRE(failures[r].empty());
    }
}

template <class T>
class OnDevice {
  public:
    OnDevice(gpu::Machine& machine, std::int64_t count)
        : count_(count), memory_(machine.allocate(std::max<std::int64_t>(bytes(), 1))) {}
    std::byte* data() const { return memory_.get(); }
    std::int64_t bytes() const { return count_ * static_cast<std::int64_t>(sizeof(T)); }
    View view() const { return View(data(), count_, dtype_of<T>); }
    View block(int r, std::int64_t n) const {
        return View(data() + r * n * static_cast<std::int64_t>(sizeof(T)), n, dtype_of<T>);
    }
    void set(std::vector<T> const& x) const {
        if (!x.empty()) std::memcpy(data(), x.data(), x.size() * sizeof(T));
    }
    std::vector<T> get() const {
        std::vector<T> x(static_cast<std::size_t>(count_));
        if (!x.empty()) std::memcpy(x.data(), data(), x.size() * sizeof(T));
        return x;
    }

  private:
    std::int64_t count_;
    std::shared_ptr<std::byte[]> memory_;
};

/// One call on device memory, between kernels that make its operands and read its result, and overwrite both
/// right after.
template <class T>
struct DeviceCall {
    std::string what;
    std::int64_t in_count, out_count;
    std::function<Pending(View in, View out)> start;
    std::function<std::vector<T>(int round)> want;

    OnDevice<T> source, in, out, result;
    Pending pending{};

    DeviceCall(gpu::Machine& machine, std::string w, std::int64_t n, std::int64_t m,
               std::function<Pending(View in, View out)> s, std::function<std::vector<T>(int)> expected)
        : what(std::move(w)),
          in_count(n),
          out_count(m),
          start(std::move(s)),
          want(std::move(expected)),
          source(machine, n),
          in(machine, n),
          out(machine, m),
          result(machine, m) {}
};

int seed(int rank, int round) { return rank + 8 * round; }

/// Every verb on device memory, all under way together; in a recording that is replayed, or call by call.
template <class T>
void check_on_device(HostRank& one, std::int64_t count, bool recorded) {
    auto& c = one.communicator;
    auto& machine = one.machine;
    int const n = c.size(), r = c.rank();
    auto row = [&](int rank, int round, std::int64_t size) { return values<T>(seed(rank, round), size); };
    auto sum = [&](int round, std::int64_t size, Combine how) {
        std::vector<std::vector<T>> all;
        std::vector<std::byte const*> inputs;
        for (int s = 0; s < n; ++s) all.push_back(row(s, round, size));
        for (auto const& x : all) inputs.push_back(reinterpret_cast<std::byte const*>(x.data()));
        std::vector<T> y(static_cast<std::size_t>(size));
        ordered_combine(how, dtype_of<T>, inputs, reinterpret_cast<std::byte*>(y.data()), size);
        return y;
    };
    std::vector<std::unique_ptr<DeviceCall<T>>> calls;
    auto add = [&](auto... x) { calls.push_back(std::make_unique<DeviceCall<T>>(machine, x...)); };
    for (auto how : {Combine::sum, Combine::max}) {
        add(
            "all_reduce", count, count,
            [&c, how](View in, View out) { return c.all_reduce(in, out, how, 3); },
            [=](int round) { return sum(round, count, how); });
        add(
            "reduce_scatter", n * count, count,
            [&c, how](View in, View out) { return c.reduce_scatter(in, out, how); },
            [=](int round) { return block(sum(round, n * count, how), r, count); });
    }
    add(
        "all_gather", count, n * count, [&c](View in, View out) { return c.all_gather(in, out); },
        [=](int round) {
            std::vector<T> all;
            for (int s = 0; s < n; ++s)
                for (auto x : row(s, round, count)) all.push_back(x);
            return all;
        });
    add(
        "all_to_all", n * count, n * count, [&c](View in, View out) { return c.all_to_all(in, out); },
        [=](int round) {
            std::vector<T> all;
            for (int s = 0; s < n; ++s)
                for (auto x : block(row(s, round, n * count), r, count)) all.push_back(x);
            return all;
        });
    // In place; messages come in order, and before what is received is sent on, both ways around a ring.
    add(
        "broadcast", count, count,
        [&c, &machine](View in, View out) {
            machine.queue(gpu::Machine::kernels).copy(out.data, in.data, in.bytes());
            return c.broadcast(out, c.size() - 1);
        },
        [=](int round) { return row(n - 1, round, count); });
    if (n > 1)
        for (int way : {1, n - 1})
            for (int k = 0; k < 2; ++k) {
                int to = (r + way) % n, from = (r + n - way) % n;
                add(
                    "send", count, std::int64_t{0}, [&c, to](View in, View) { return c.send(in, to); },
                    [](int) { return std::vector<T>(); });
                add(
                    "recv", std::int64_t{0}, count, [&c, from](View, View out) { return c.recv(out, from); },
                    [=](int round) { return row(from, round, count); });
            }

    auto& kernels = machine.queue(gpu::Machine::kernels);
    auto ask = [&] {
        for (auto& call : calls) {
            kernels.copy(call->in.data(), call->source.data(), call->in.bytes());
            kernels.fill(call->out.data(), 0xA5, call->out.bytes());
            call->pending = call->start(call->in.view(), call->out.view());
        }
        for (auto& call : calls) {
            call->pending.wait();
            kernels.copy(call->result.data(), call->out.data(), call->out.bytes());
            kernels.fill(call->in.data(), 0x5A, call->in.bytes());
            kernels.fill(call->out.data(), 0x5A, call->out.bytes());
        }
    };
    std::unique_ptr<RecordedStep> step;
    for (int round = 0; round < 4; ++round) {
        for (auto& call : calls) call->source.set(row(r, round, call->in_count));
        if (recorded && round == 1) {
            machine.begin_recording();
            ask();
            step = machine.end_recording();
        }
        if (step) step->replay();
        else ask();
        machine.finish();
        for (auto& call : calls)
            expect(same_bits(call->result.get(), call->want(round)), "{} of {} {} on rank {} of {}, round {}",
                   call->what, count, name_of(dtype_of<T>), r, n, round);
    }
}

void check_on_device_all(HostRank& one, bool recorded) {
    for (std::int64_t count : {1, 8, 1001}) {
        check_on_device<float>(one, count, recorded);
        check_on_device<Bf16>(one, count, recorded);
    }
    check_on_device<std::int32_t>(one, 33, recorded);
}

}  // namespace

TEST_CASE("every verb on host memory, over streams") {
    int const ranks = GENERATE(1, 2, 3, 4);
    CAPTURE(ranks);
    require_well(failures_of(ranks, [](HostRank& one) { check_verbs(one.communicator); }));
}

TEST_CASE("every verb on device memory, among kernels") {
    int const ranks = GENERATE(1, 2, 3, 4);
    auto const order = GENERATE(gpu::Order::forward, gpu::Order::backward);
    bool const recorded = GENERATE(false, true);
    CAPTURE(ranks, order == gpu::Order::forward, recorded);
    require_well(
        failures_of(ranks, [&](HostRank& one) { check_on_device_all(one, recorded); }, {.order = order}));
}

TEST_CASE("sums in pieces of little memory are the same, and unordered ones are sums") {
    HostRanks little;
    little.options.scratch_bytes = 4096;
    require_well(failures_of(
        3, [](HostRank& one) { check_on_device<float>(one, 5001, true); }, little));
    HostRanks fast;
    fast.options.ordered = false;
    require_well(failures_of(
        3, [](HostRank& one) { check_on_device<Bf16>(one, 501, false); }, fast));
}

TEST_CASE("without its events a call reads and gives the wrong values") {
    auto wrong = [](int ranks, Forget forget, gpu::Order order) {
        auto failures = failures_of(ranks, [](HostRank& one) { check_on_device<float>(one, 1001, false); },
                                    {.order = order, .forget = forget});
        return std::count(failures.begin(), failures.end(), "") < ranks;
    };
    for (auto order : {gpu::Order::forward, gpu::Order::backward})
        CHECK(wrong(2, Forget::kernels_wait, order));
    // Of several ranks the last to come would decide.
    CHECK(wrong(1, Forget::communication_waits, gpu::Order::backward));
    CHECK(!wrong(1, Forget::nothing, gpu::Order::backward));
}

TEST_CASE("parts of the world on device memory") {
    require_well(failures_of(4, [](HostRank& one) {
        auto& c = one.communicator;
        auto half = c.split(c.rank() / 2, c.rank(), "half");
        auto single = c.split(c.rank(), 0, "single");
        auto& part = static_cast<gpu::StreamCommunicator&>(*half);
        HostRank of_half{part, one.world, one.machine};
        check_on_device<float>(of_half, 77, true);
        HostRank alone{static_cast<gpu::StreamCommunicator&>(*single), one.world, one.machine};
        check_on_device<float>(alone, 77, true);
        check_on_device<float>(one, 77, true);
    }));
}

TEST_CASE("device and host memory do not mix in one call") {
    require_well(failures_of(1, [](HostRank& one) {
        OnDevice<float> x(one.machine, 4);
        std::vector<float> y(4);
        try {
            one.communicator.all_reduce(x.view(), View(std::span(y)), Combine::sum).wait();
        } catch (UsageError const& e) {
            expect(
                std::string(e.what()) == "all_reduce: in and out lie in device and host memory; use one kind",
                "{}", e.what());
            return;
        }
        fail("nothing was said");
    }));
}
