#pragma once

#include "plait/core/array.hpp"
#include "plait/core/combine.hpp"
#include "plait/core/inline.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plait {

/// A failure of ranks to meet: a mismatched call, a rank that is missing, has left or has failed. Every rank
/// of the world gets it, in whatever call it is or makes next.
struct CommunicationError : Error {
    explicit CommunicationError(std::string const& why, std::vector<int> wrong = {}, int saw_it = 0)
        : Error(why), ranks(std::move(wrong)), witness(saw_it) {}

    /// Of the world: those that are missing, have left or failed, or call something else than most.
    std::vector<int> ranks;
    /// The rank of the world that tells people of it, where one has to: one that waits for the missing ones,
    /// or the one that failed itself.
    int witness = 0;
};
/// "rank 1 failed: no more disk": the news of what a rank threw, which tells of it itself.
inline CommunicationError failure_of_rank(int rank, std::string const& what) {
    return CommunicationError(fmt::format("rank {} failed: {}", rank, what), {rank}, rank);
}

/// Elements in memory that a call reads: `count` of them, dense.
struct ConstView {
    std::byte const* data = nullptr;
    std::int64_t count = 0;
    DType dtype = u8;

    ConstView() = default;
    ConstView(std::byte const* bytes, std::int64_t elements, DType t)
        : data(bytes), count(elements), dtype(t) {}
    ConstView(Array const& a) : ConstView(a.bytes().data(), a.meta().elements(), a.meta().dtype) {}
    template <class T, std::size_t N>
    ConstView(std::span<T, N> s)
        : ConstView(reinterpret_cast<std::byte const*>(s.data()), static_cast<std::int64_t>(s.size()),
                    dtype_of<std::remove_const_t<T>>) {}

    std::int64_t bytes() const { return bytes_of(dtype, count); }
};

/// Elements in memory that a call writes.
struct View {
    std::byte* data = nullptr;
    std::int64_t count = 0;
    DType dtype = u8;

    View() = default;
    View(std::byte* bytes, std::int64_t elements, DType t) : data(bytes), count(elements), dtype(t) {}
    View(Array const& a) : View(a.bytes().data(), a.meta().elements(), a.meta().dtype) {}
    template <class T, std::size_t N>
    View(std::span<T, N> s)
        : View(reinterpret_cast<std::byte*>(s.data()), static_cast<std::int64_t>(s.size()), dtype_of<T>) {}
    operator ConstView() const { return {data, count, dtype}; }

    std::int64_t bytes() const { return bytes_of(dtype, count); }
};

enum class Verb : std::uint8_t {
    all_reduce,
    reduce_scatter,
    all_gather,
    all_to_all,
    broadcast,
    send,
    recv,
    barrier,
    split,
    leave,  // sent by a communicator that ends
};
inline constexpr int verb_count = 10;
std::string_view name_of(Verb verb);

/// What a rank calls. All ranks of a collective, and both sides of a message, must agree on every field; for
/// a message save verb and peer, which mirror each other.
struct Call {
    std::uint64_t number =
        0;  // from 1: of the communicator's collectives, or of the messages of one rank to another
    std::uint64_t site =
        0;  // who calls, where the caller says so (an instruction's number): tells like calls apart
    std::int64_t count = 0;  // all_reduce, broadcast, message: elements; else elements of one rank's block
    std::int32_t peer = -1;  // root of a broadcast, other side of a message
    Verb verb = Verb::barrier;
    DType dtype = u8;
    Combine combine = Combine::sum;

    bool is_message() const { return verb == Verb::send || verb == Verb::recv; }
    bool is_reduction() const { return verb == Verb::all_reduce || verb == Verb::reduce_scatter; }
    bool operator==(Call const&) const = default;
};
/// "all_gather of 64 f32", "all_reduce of 64 f32 by max", "send of 8 bf16 to rank 1"
std::string to_string(Call const& call);
/// "call 12", "message 3"
std::string number_text(Call const& call);

/// The ranks of a communicator, for messages to people.
struct Members {
    std::string name;        // of the communicator: "world" or a mesh axis
    std::vector<int> world;  // the rank in the world of each
    int world_size = 0;

    int size() const { return static_cast<int>(world.size()); }
    /// "rank 1", and in a part of the world "rank 1 (world rank 3)"
    std::string rank(int r) const;

    /// Nothing if the ranks of a collective agree, else who differs from most of them: "world: rank 1 calls
    /// all_gather of 64 f32 as call 12, rank 0 all_reduce of 64 f32".
    std::optional<CommunicationError> mismatch(std::span<Call const> calls) const;
    /// The same of a message, `mine` being the call of rank `r`.
    std::optional<CommunicationError> mismatch(int r, Call const& mine, Call const& theirs) const;
    /// "world: rank 2 is missing from all_reduce of 64 f32, call 12, where rank 0, rank 1 wait, after 0.2 s",
    /// and what `more` is known.
    CommunicationError missing(std::vector<int> const& late, std::vector<int> const& there, Call const& call,
                               double seconds, std::string const& more = "") const;
    /// "world: rank 2 has left before all_reduce of 64 f32, call 12, of rank 0"
    CommunicationError left(int gone, int r, Call const& call) const;
    /// "world: rank 2 ends by an exception during all_reduce of 64 f32, call 12"
    CommunicationError unwinding(int r, Call const* during) const;

  private:
    int of_world(int r) const { return world[static_cast<std::size_t>(r)]; }
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/comm/call-inl.hpp"
#endif
