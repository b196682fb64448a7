#pragma once

#include "cuda/host/machine.hpp"
#include "cuda/stream_communicator.hpp"
#include "plait/comm/threads.hpp"

#include <set>
#include <thread>

/// Ranks that are threads, each with a machine on the host, and a wire between those over the communicator of
/// threads.
namespace tests {

namespace gpu = plait::cuda;
using plait::CommunicationError;
using plait::Communicator;
using plait::ConstView;
using plait::Pending;
using plait::View;

/// Where threads find the worlds that their wires run over.
class HostNet {
  public:
    struct Seat {
        std::shared_ptr<plait::ThreadWorld> world;
        std::unique_ptr<Communicator> communicator;
    };
    Seat join(std::string const& context, int size, int rank) {
        std::lock_guard lock(mutex_);
        auto& world = worlds_[context];
        if (!world) world = std::make_shared<plait::ThreadWorld>(size);
        present_[context].insert(rank);
        return {world, world->join(rank)};
    }
    bool all_there(std::string const& context, int size) {
        std::lock_guard lock(mutex_);
        return std::ssize(present_[context]) == size;
    }

  private:
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<plait::ThreadWorld>> worlds_;
    std::map<std::string, std::set<int>> present_;
};

/// Of calls that failed; as with NCCL those never end.
using Words = std::shared_ptr<std::string>;

inline gpu::HostMachine::Going going(std::vector<Pending> pending, Words const& error) {
    auto all = std::make_shared<std::vector<Pending>>(std::move(pending));
    return [all, error] {
        try {
            for (auto const& p : *all)
                if (!p.done()) return false;
            for (auto& p : *all) p.wait();
        } catch (CommunicationError const& e) {
            *error = e.what();
        }
        return error->empty();
    };
}
inline gpu::HostMachine::Going going(Pending pending, Words const& error) {
    std::vector<Pending> one;
    one.push_back(std::move(pending));
    return going(std::move(one), error);
}

class HostLane final : public gpu::Lane {
  public:
    HostLane(gpu::HostMachine& machine, HostNet& net, std::string context, bool sends)
        : machine_(machine),
          net_(net),
          context_(std::move(context)),
          seat_(net.join(context_, 2, sends ? 0 : 1)) {}
    bool ready() override { return net_.all_there(context_, 2); }
    void send(int stream, std::byte const* data, std::int64_t bytes) override {
        machine_.post(stream, [=, this] {
            return going(seat_.communicator->send(ConstView(data, bytes, plait::u8), 1), error_);
        });
    }
    void recv(int stream, std::byte* data, std::int64_t bytes) override {
        machine_.post(stream, [=, this] {
            return going(seat_.communicator->recv(View(data, bytes, plait::u8), 0), error_);
        });
    }
    std::string error() override { return *error_; }
    void abort() noexcept override { seat_.world->fail(CommunicationError("aborted")); }

  private:
    gpu::HostMachine& machine_;
    HostNet& net_;
    std::string const context_;
    HostNet::Seat seat_;
    Words error_ = std::make_shared<std::string>();
};

class HostWire final : public gpu::Wire {
  public:
    HostWire(gpu::HostMachine& machine, HostNet& net, std::string context, int size, int rank)
        : machine_(machine), net_(net), context_(std::move(context)), seat_(net.join(context_, size, rank)) {}

    void all_reduce(int stream, std::byte const* in, std::byte* out, std::int64_t count, plait::DType dtype,
                    plait::Combine how) override {
        machine_.post(stream, [=, this] {
            return going(inner().all_reduce(ConstView(in, count, dtype), View(out, count, dtype), how),
                         error_);
        });
    }
    void reduce_scatter(int stream, std::byte const* in, std::byte* out, std::int64_t count,
                        plait::DType dtype, plait::Combine how) override {
        machine_.post(stream, [=, this] {
            return going(inner().reduce_scatter(ConstView(in, count * inner().size(), dtype),
                                                View(out, count, dtype), how),
                         error_);
        });
    }
    void all_gather(int stream, std::byte const* in, std::byte* out, std::int64_t bytes) override {
        machine_.post(stream, [=, this] {
            return going(inner().all_gather(ConstView(in, bytes, plait::u8),
                                            View(out, bytes * inner().size(), plait::u8)),
                         error_);
        });
    }
    void broadcast(int stream, std::byte* data, std::int64_t bytes, int root) override {
        machine_.post(stream, [=, this] {
            return going(inner().broadcast(View(data, bytes, plait::u8), root), error_);
        });
    }
    void begin_group() override { group_.clear(); }
    void send(int stream, std::byte const* data, std::int64_t bytes, int to) override {
        stream_ = stream;
        group_.push_back([=, this] { return inner().send(ConstView(data, bytes, plait::u8), to); });
    }
    void recv(int stream, std::byte* data, std::int64_t bytes, int from) override {
        stream_ = stream;
        group_.push_back([=, this] { return inner().recv(View(data, bytes, plait::u8), from); });
    }
    void end_group() override {
        if (group_.empty()) return;
        machine_.post(stream_, [group = std::exchange(group_, {}), error = error_] {
            std::vector<Pending> all;
            for (auto const& one : group) all.push_back(one());
            return going(std::move(all), error);
        });
    }
    std::unique_ptr<gpu::Lane> lane(int peer, bool sends) override {
        auto way =
            sends ? fmt::format("{}>{}", inner().rank(), peer) : fmt::format("{}>{}", peer, inner().rank());
        return std::make_unique<HostLane>(machine_, net_, context_ + "/" + way, sends);
    }
    std::unique_ptr<gpu::Wire> part(std::vector<int> const& ranks, int rank,
                                    std::string const& context) override {
        return std::make_unique<HostWire>(machine_, net_, context, static_cast<int>(ranks.size()), rank);
    }
    std::string error() override { return *error_; }
    void abort() noexcept override { seat_.world->fail(CommunicationError("aborted")); }

  private:
    Communicator& inner() { return *seat_.communicator; }

    gpu::HostMachine& machine_;
    HostNet& net_;
    std::string const context_;
    HostNet::Seat seat_;
    Words error_ = std::make_shared<std::string>();
    int stream_ = 0;
    std::vector<std::function<Pending()>> group_;
};

/// A machine that forgets to let one stream, or all but that one, wait for events.
class ForgetfulMachine final : public gpu::Machine {
  public:
    ForgetfulMachine(std::shared_ptr<gpu::HostMachine> machine, bool kernels)
        : machine_(std::move(machine)), kernels_(kernels) {}
    std::string description() const override { return machine_->description(); }
    std::int64_t free_bytes() const override { return machine_->free_bytes(); }
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override { return machine_->allocate(bytes); }
    std::shared_ptr<std::byte[]> allocate_host(std::int64_t bytes) override {
        return machine_->allocate_host(bytes);
    }
    bool is_device(void const* address) const override { return machine_->is_device(address); }
    Stream add_stream(std::string name, bool marks) override {
        return machine_->add_stream(std::move(name), marks);
    }
    gpu::Queue& queue(Stream stream) override { return machine_->queue(stream); }
    void copy_in(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) override {
        machine_->copy_in(stream, to, from, bytes);
    }
    void copy_out(Stream stream, std::byte* to, std::byte const* from, std::int64_t bytes) override {
        machine_->copy_out(stream, to, from, bytes);
    }
    Event record(Stream stream) override { return machine_->record(stream); }
    void wait(Stream stream, Event event) override {
        if ((stream == kernels) != kernels_) machine_->wait(stream, event);
    }
    void finish(Event event) override { machine_->finish(event); }
    bool reached(Event event) override { return machine_->reached(event); }
    void begin(int number, std::string_view name) override { machine_->begin(number, name); }
    void begin_recording() override { machine_->begin_recording(); }
    bool recording() const override { return machine_->recording(); }
    std::unique_ptr<plait::RecordedStep> end_recording() override { return machine_->end_recording(); }
    void finish() override { machine_->finish(); }
    int add_watcher(std::function<void(double)> watcher) override {
        return machine_->add_watcher(std::move(watcher));
    }
    void remove_watcher(int number) override { machine_->remove_watcher(number); }

  private:
    std::shared_ptr<gpu::HostMachine> machine_;
    bool kernels_;
};

enum class Forget { nothing, kernels_wait, communication_waits };

struct HostRanks {
    gpu::StreamOptions options{.limit_seconds = 20};
    gpu::Order order = gpu::Order::forward;  // of even ranks; odd ones take the other
    Forget forget = Forget::nothing;
    bool goes_on = true;  // the device works while the host waits for others
};

struct HostRank {
    gpu::StreamCommunicator& communicator;
    gpu::StreamWorld& world;
    gpu::Machine& machine;
};

/// f on as many threads as there are ranks; what each of them threw, or "".
inline std::vector<std::string> failures_of(int ranks, std::function<void(HostRank&)> const& f,
                                            HostRanks how = {}) {
    HostNet net;
    std::vector<std::string> what(static_cast<std::size_t>(ranks));
    auto server = ranks > 1 ? std::make_unique<gpu::BoardServer>(0, ranks) : nullptr;
    int const port = server ? server->port() : 0;
    auto run = [&](int rank) {
        try {
            auto host = std::make_shared<gpu::HostMachine>(gpu::HostOptions{
                .order = (rank % 2 == 0) == (how.order == gpu::Order::forward) ? gpu::Order::forward
                                                                               : gpu::Order::backward,
                .fixed_algorithms = true});
            std::shared_ptr<gpu::Machine> machine = host;
            if (how.forget != Forget::nothing)
                machine = std::make_shared<ForgetfulMachine>(host, how.forget == Forget::kernels_wait);
            auto world = std::make_shared<gpu::StreamWorld>(
                machine, gpu::Place{.rank = rank, .size = ranks, .port = port}, how.options,
                rank == 0 ? std::move(server) : nullptr);
            if (how.goes_on) world->add_poll([host] { host->go_on(); });
            std::unique_ptr<gpu::Wire> wire;
            if (ranks > 1) wire = std::make_unique<HostWire>(*host, net, "w", ranks, rank);
            gpu::StreamCommunicator communicator(world, std::move(wire));
            HostRank one{communicator, *world, *machine};
            f(one);
        } catch (std::exception const& e) {
            what[static_cast<std::size_t>(rank)] = e.what();
        }
    };
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks; ++r) threads.emplace_back(run, r);
    for (auto& t : threads) t.join();
    return what;
}

}  // namespace tests
