#pragma once

#include "cuda/machine.hpp"
#include "plait/core/combine.hpp"

#include <memory>
#include <string>
#include <vector>

namespace plait::cuda {

/// What a library keeps of ranks that it has joined.
class Link {
  public:
    virtual ~Link() = default;
    /// What went wrong after a call had been put on its stream; empty while all is well.
    virtual std::string error() { return {}; }
    /// Begins to end what is on its way, from any thread. What is called after it throws.
    virtual void abort() noexcept {}
    /// Begins to part, which all ranks do, in any order of their links. Nothing is called after it.
    virtual void leave() noexcept {}
    /// Whether what abort() or leave() began is over.
    virtual bool ended() noexcept { return true; }
};

/// The messages of one rank to one other, in their order. They wait for nothing but each other.
class Lane : public Link {
  public:
    /// Whether both sides have come, so that messages can be put on streams; looks anew. Throws
    /// CommunicationError.
    virtual bool ready() = 0;
    virtual void send(Machine::Stream stream, std::byte const* data, std::int64_t bytes) = 0;
    virtual void recv(Machine::Stream stream, std::byte* data, std::int64_t bytes) = 0;
};

/// A library that moves device memory between the ranks of one communicator. Every function puts its work on
/// a stream and returns, and throws CommunicationError where it cannot; sizes are never 0. All ranks call the
/// same in the same order.
class Wire : public Link {
  public:
    /// [count] -> [count], in whatever order the library adds up.
    virtual void all_reduce(Machine::Stream stream, std::byte const* in, std::byte* out, std::int64_t count,
                            DType dtype, Combine how) = 0;
    /// [size, count] -> [count], likewise.
    virtual void reduce_scatter(Machine::Stream stream, std::byte const* in, std::byte* out,
                                std::int64_t count, DType dtype, Combine how) = 0;
    /// [bytes] -> [size, bytes]; `in` may be its row of `out`.
    virtual void all_gather(Machine::Stream stream, std::byte const* in, std::byte* out,
                            std::int64_t bytes) = 0;
    virtual void broadcast(Machine::Stream stream, std::byte* data, std::int64_t bytes, int root) = 0;

    /// What is sent and received between begin and end goes together, as one collective on one stream.
    virtual void begin_group() = 0;
    virtual void send(Machine::Stream stream, std::byte const* data, std::int64_t bytes, int to) = 0;
    virtual void recv(Machine::Stream stream, std::byte* data, std::int64_t bytes, int from) = 0;
    virtual void end_group() = 0;

    /// Begins to make the way of messages to `peer` (`sends`) or from it, which it does likewise.
    virtual std::unique_ptr<Lane> lane(int peer, bool sends) = 0;
    /// The wire of a part, made by all of its ranks: `ranks` of this one, of which this rank is number
    /// `rank`; `context` names it in the world.
    virtual std::unique_ptr<Wire> part(std::vector<int> const& ranks, int rank,
                                       std::string const& context) = 0;
};

}  // namespace plait::cuda
