#pragma once

#include "cuda/sequence.hpp"
#include "cuda/stream_world.hpp"

#include <list>
#include <map>

namespace plait::cuda {

class StreamTicket;

/// Ranks with a GPU each. Calls on device memory are work on streams: they come after all that was asked of
/// Machine::kernels before, wait() makes that stream come after them, and the host never waits. So the calls
/// of a step can be recorded with it, and what stands between start and wait runs beside them. Calls on host
/// memory go through the device; their wait() waits here, and they are not for recordings.
///
/// Collectives share a stream; every pair of ranks has one each way for its messages, and a lane of its own,
/// as a library does all work of one of its communicators in order. The first message of a lane is put on its
/// stream when both sides have come, which wait() waits for.
///
/// Other than Communicator says, calls are not compared one by one: `verify` compares them, and so do splits
/// and every so many calls on host memory. The calls of a recording are counted once, not by replay.
class StreamCommunicator final : public Communicator {
  public:
    /// The world's, made by all of its ranks. `wire` may be null for one rank.
    StreamCommunicator(std::shared_ptr<StreamWorld> world, std::unique_ptr<Wire> wire);
    ~StreamCommunicator() override;

    Pending start(Call call, ConstView in, View out) override;
    /// Compares what all ranks have called: a collective that waits. Throws CommunicationError that names
    /// ranks, verbs and number where they differ.
    void verify() { verify({.number = collectives_, .verb = Verb::barrier}); }
    /// Ends the world, from outside of its calls.
    void fail(CommunicationError const& why) noexcept { world_->tell(why); }

  protected:
    std::unique_ptr<Communicator> part(Part const& p) override;

  private:
    friend StreamTicket;
    /// Device and host memory for a call on host memory; the host's ends with a word that the GPU writes
    /// last.
    struct Staging {
        std::shared_ptr<std::byte[]> device{}, host{};
        std::int64_t bytes = 0;
        bool taken = false;
    };
    struct Messages {  // with one rank, one way
        Messages(StreamWorld& world, Lane& l, std::string context, int rank, Members const& members)
            : track(world, std::move(context), rank, members), lane(l) {}
        Track track;
        Lane& lane;
        std::uint64_t count = 0;
        std::vector<std::shared_ptr<StreamTicket>> queue{};  // until the lane is ready
    };

    StreamCommunicator(std::shared_ptr<StreamWorld> world, std::unique_ptr<Wire> wire, Members members,
                       int rank, std::string context);

    Messages& messages(int peer, bool sends);
    Staging* staging(std::int64_t bytes);
    void put(StreamTicket& ticket);
    void put(StreamTicket& ticket, Messages& messages);
    template <class F>
    void put_between(StreamTicket& ticket, Track& track, F const& f);
    void advance();
    void verify(Call const& at);
    void compare_messages(std::string const& key);
    std::int64_t traffic_of(Call const& call) const;

    void move(Call const& call, std::byte const* in, std::byte* out);
    /// The combination of elements [first, last) = part_of_rank(rank()) of all ranks' `in` at `out`, in
    /// order.
    template <class PartOf>
    void reduce(Call const& call, std::byte const* in, std::byte* out, PartOf const& part_of_rank);
    /// bytes(r) at to(r) to every other rank r, and from it likewise.
    template <class Out, class In>
    void exchange(Out const& out, In const& in);
    void copy(std::byte* to, std::byte const* from, std::int64_t bytes);
    std::byte* scratch(std::int64_t bytes);

    std::shared_ptr<StreamWorld> const world_;
    Members const members_;
    std::string const context_;  // in the world
    bool const part_;
    int const exceptions_;
    Wire* const wire_;
    Sequence sequence_;
    std::uint64_t collectives_ = 0, checks_ = 0;
    int host_calls_ = 0, poll_ = 0;
    std::list<Staging> staging_;
    std::vector<std::shared_ptr<std::byte[]>> scratch_;  // the last is the largest; recordings use the others
    std::int64_t scratch_bytes_ = 0;
    std::vector<std::string> old_keys_;
    std::vector<std::weak_ptr<StreamTicket>> posted_;
    // They wait for the GPU when they go, before the memory that it may still write.
    Track track_;
    std::map<std::pair<int, bool>, std::unique_ptr<Messages>> messages_;  // by peer, and whether sent
};

}  // namespace plait::cuda
