#pragma once

#include "plait/comm/communicator.hpp"

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

/// Communicators that do something wrong, or something else, on the way.
namespace tests {

using namespace plait;

/// Stands for another communicator, and for its parts: `does` makes every call in its own way, and returns
/// when it is done. What the real one sends is counted here.
class Tampered : public Communicator {
  public:
    using Does = std::function<void(Communicator& real, Call const& call, ConstView in, View out)>;

    Tampered(Communicator& real, Does does)
        : Communicator(real.rank(), real.size(), real.name()), real_(&real), does_(std::move(does)) {}
    Tampered(std::unique_ptr<Communicator> real, Does does) : Tampered(*real, std::move(does)) {
        owned_ = std::move(real);
    }

    std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
        auto part = real_->split(color, key, std::move(name));
        return part ? std::make_unique<Tampered>(std::move(part), does_) : nullptr;
    }
    Pending start(Call call, ConstView in, View out) override {
        does_(*real_, call, in, out);
        for (auto const& row : real_->traffic()) traffic_.add(row.verb, row.dtype, row.bytes, row.calls);
        real_->reset_traffic();
        return {};
    }

  protected:
    std::unique_ptr<Communicator> part(Part const&) override { fail("split is the real one's"); }

  private:
    std::unique_ptr<Communicator> owned_;
    Communicator* real_;
    Does does_;
};

/// Makes the world of every rank a tampered one; `make` gives each rank its own way of calling.
inline std::function<std::unique_ptr<Communicator>(Communicator&)> tampered(
    std::function<Tampered::Does()> make) {
    return [make = std::move(make)](Communicator& real) { return std::make_unique<Tampered>(real, make()); };
}

inline void honest(Communicator& real, Call const& call, ConstView in, View out) {
    real.start(call, in, out).wait();
}

/// Tells the calls of one site, that of the first sum of some size, from all others.
struct OneSum {
    std::uint64_t site = 0;

    bool operator()(Communicator const& real, Call const& call) {
        if (!call.is_reduction() || call.combine != Combine::sum || real.size() == 1 || call.count < 16)
            return false;
        if (!site) site = call.site;
        return site == call.site;
    }
};

/// Rank 1 adds nothing to one of the sums.
inline Tampered::Does leaves_one_out() {
    return [one = OneSum{}](Communicator& real, Call const& call, ConstView in, View out) mutable {
        if (!one(real, call) || real.rank() != 1) return honest(real, call, in, out);
        std::vector<std::byte> none(static_cast<std::size_t>(in.bytes()));
        honest(real, call, {none.data(), in.count, in.dtype}, out);
    };
}

/// Ranks 1 and 2 of four or more bring each other's addends to one of the sums.
inline Tampered::Does swaps_two() {
    return [one = OneSum{}](Communicator& real, Call const& call, ConstView in, View out) mutable {
        auto r = real.rank();
        if (!one(real, call) || (r != 1 && r != 2)) return honest(real, call, in, out);
        std::vector<std::byte> other(static_cast<std::size_t>(in.bytes()));
        auto sent = real.send(in, 3 - r);
        real.recv({other.data(), in.count, in.dtype}, 3 - r).wait();
        sent.wait();
        honest(real, call, {other.data(), in.count, in.dtype}, out);
    };
}

/// Rank 1 takes what one of the gathers brought in the step before.
inline Tampered::Does gathers_stale() {
    struct Kept {
        std::uint64_t site = 0;
        std::vector<std::byte> last{};
    };
    return [kept = Kept{}](Communicator& real, Call const& call, ConstView in, View out) mutable {
        honest(real, call, in, out);
        if (call.verb != Verb::all_gather || real.size() == 1 || real.rank() != 1) return;
        if (!kept.site) kept.site = call.site;
        if (kept.site != call.site) return;
        std::vector<std::byte> fresh(out.data, out.data + out.bytes());
        if (!kept.last.empty()) std::memcpy(out.data, kept.last.data(), kept.last.size());
        kept.last = std::move(fresh);
    };
}

/// Reduces the whole on every rank where a block would do: the same numbers, more bytes.
inline Tampered::Does reduces_all() {
    return [](Communicator& real, Call const& call, ConstView in, View out) {
        if (call.verb != Verb::reduce_scatter) return honest(real, call, in, out);
        std::vector<std::byte> all(static_cast<std::size_t>(in.bytes()));
        real.all_reduce(in, View(all.data(), in.count, in.dtype), call.combine, call.site).wait();
        std::memcpy(out.data, all.data() + real.rank() * out.bytes(), static_cast<std::size_t>(out.bytes()));
    };
}

}  // namespace tests
