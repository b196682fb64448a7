#pragma once

#include "plait/comm/communicator.hpp"
#include "plait/comm/ordered.hpp"

#include <algorithm>
#include <exception>
#include <functional>
#include <numeric>
#include <tuple>

namespace plait {

PLAIT_INLINE Pending::Pending(std::shared_ptr<Ticket> ticket)
    : ticket_(std::move(ticket)), exceptions_(std::uncaught_exceptions()) {}

PLAIT_INLINE Pending& Pending::operator=(Pending&& other) noexcept {
    drop();
    ticket_ = std::move(other.ticket_);
    exceptions_ = other.exceptions_;
    return *this;
}

PLAIT_INLINE Pending::~Pending() { drop(); }

PLAIT_INLINE void Pending::drop() noexcept {
    if (!ticket_) return;
    if (std::uncaught_exceptions() > exceptions_) ticket_->abandon();
    try {
        wait();
    } catch (...) {}
}

PLAIT_INLINE void Pending::wait() {
    if (auto ticket = std::move(ticket_)) ticket->wait();
}

PLAIT_INLINE void TrafficTable::add(Verb verb, DType dtype, std::int64_t bytes, std::int64_t calls) {
    std::lock_guard lock(mutex_);
    auto& count = counts_[static_cast<std::size_t>(verb)][static_cast<std::size_t>(dtype)];
    count.calls += calls;
    count.bytes += bytes;
}

PLAIT_INLINE std::vector<TrafficRow> TrafficTable::rows() const {
    std::lock_guard lock(mutex_);
    std::vector<TrafficRow> rows;
    for (std::size_t v = 0; v < counts_.size(); ++v) {
        for (std::size_t t = 0; t < counts_[v].size(); ++t) {
            auto const& c = counts_[v][t];
            if (c.calls) rows.push_back({static_cast<Verb>(v), static_cast<DType>(t), c.calls, c.bytes});
        }
    }
    return rows;
}

PLAIT_INLINE void TrafficTable::reset() {
    std::lock_guard lock(mutex_);
    counts_ = {};
}

PLAIT_INLINE std::int64_t total_bytes(std::vector<TrafficRow> const& rows) {
    return std::accumulate(rows.begin(), rows.end(), std::int64_t{0},
                           [](std::int64_t n, TrafficRow const& row) { return n + row.bytes; });
}

namespace detail {
/// `block` may be block `rank` of `whole`, and must not overlap it otherwise.
inline void check_overlap(Verb verb, ConstView whole, ConstView block, std::int64_t rank) {
    std::less<std::byte const*> before;
    bool apart =
        !before(whole.data, block.data + block.bytes()) || !before(block.data, whole.data + whole.bytes());
    bool in_place = rank >= 0 && block.data == whole.data + rank * block.bytes();
    check<UsageError>(apart || in_place, "{}: in and out overlap; use separate memory{}", name_of(verb),
                      rank >= 0 ? ", or the block of this rank" : "");
}

inline void check_sizes(Verb verb, ConstView in, View out, std::int64_t wanted_in, std::int64_t wanted_out) {
    check<ShapeError>(in.dtype == out.dtype, "{}: in is {}, out {}", name_of(verb), name_of(in.dtype),
                      name_of(out.dtype));
    check<ShapeError>(in.count == wanted_in && out.count == wanted_out,
                      "{}: in holds {} elements and out {}: they should hold {} and {}", name_of(verb),
                      in.count, out.count, wanted_in, wanted_out);
}
}  // namespace detail

PLAIT_INLINE void Communicator::check_peer(int peer, Verb verb) const {
    check<UsageError>(peer >= 0 && peer < size_ && (verb == Verb::broadcast || peer != rank_),
                      "{}: there is no other rank {} among the {} of {}", name_of(verb), peer, size_, name_);
}

PLAIT_INLINE Pending Communicator::all_reduce(ConstView in, View out, Combine how, std::uint64_t site) {
    detail::check_sizes(Verb::all_reduce, in, out, in.count, in.count);
    detail::check_overlap(Verb::all_reduce, in, out, 0);
    check_combine(how, in.dtype);
    return start(
        {.site = site, .count = in.count, .verb = Verb::all_reduce, .dtype = in.dtype, .combine = how}, in,
        out);
}

PLAIT_INLINE Pending Communicator::reduce_scatter(ConstView in, View out, Combine how, std::uint64_t site) {
    detail::check_sizes(Verb::reduce_scatter, in, out, out.count * size_, out.count);
    detail::check_overlap(Verb::reduce_scatter, in, out, rank_);
    check_combine(how, in.dtype);
    return start(
        {.site = site, .count = out.count, .verb = Verb::reduce_scatter, .dtype = in.dtype, .combine = how},
        in, out);
}

PLAIT_INLINE Pending Communicator::all_gather(ConstView in, View out, std::uint64_t site) {
    detail::check_sizes(Verb::all_gather, in, out, in.count, in.count * size_);
    detail::check_overlap(Verb::all_gather, out, in, rank_);
    return start({.site = site, .count = in.count, .verb = Verb::all_gather, .dtype = in.dtype}, in, out);
}

PLAIT_INLINE Pending Communicator::all_to_all(ConstView in, View out, std::uint64_t site) {
    auto block = in.count / size_;
    detail::check_sizes(Verb::all_to_all, in, out, block * size_, block * size_);
    detail::check_overlap(Verb::all_to_all, in, out, -1);
    return start({.site = site, .count = block, .verb = Verb::all_to_all, .dtype = in.dtype}, in, out);
}

PLAIT_INLINE Pending Communicator::broadcast(View data, int root, std::uint64_t site) {
    check_peer(root, Verb::broadcast);
    return start(
        {.site = site, .count = data.count, .peer = root, .verb = Verb::broadcast, .dtype = data.dtype}, data,
        data);
}

PLAIT_INLINE Pending Communicator::send(ConstView data, int to, std::uint64_t site) {
    check_peer(to, Verb::send);
    return start({.site = site, .count = data.count, .peer = to, .verb = Verb::send, .dtype = data.dtype},
                 data, {});
}

PLAIT_INLINE Pending Communicator::recv(View data, int from, std::uint64_t site) {
    check_peer(from, Verb::recv);
    return start({.site = site, .count = data.count, .peer = from, .verb = Verb::recv, .dtype = data.dtype},
                 {}, data);
}

PLAIT_INLINE Pending Communicator::barrier(std::uint64_t site) {
    return start({.site = site, .verb = Verb::barrier}, {}, {});
}

PLAIT_INLINE std::unique_ptr<Communicator> Communicator::split(int color, int key, std::string name) {
    std::array<std::int64_t, 3> mine{color, key, propose_context()};
    std::vector<std::int64_t> all(mine.size() * static_cast<std::size_t>(size_));
    start({.count = 3, .verb = Verb::split, .dtype = i64}, std::span(mine), std::span(all)).wait();
    if (color < 0) return nullptr;
    auto of = [&](int r, int column) { return all[static_cast<std::size_t>(3 * r + column)]; };
    Part p{.name = std::move(name), .ranks = {}, .color = color};
    for (int r = 0; r < size_; ++r) {
        if (of(r, 0) == color) p.ranks.push_back(r);
        p.context = std::max(p.context, of(r, 2));
    }
    std::stable_sort(p.ranks.begin(), p.ranks.end(), [&](int a, int b) { return of(a, 1) < of(b, 1); });
    p.rank = static_cast<int>(std::find(p.ranks.begin(), p.ranks.end(), rank_) - p.ranks.begin());
    return part(p);
}

PLAIT_INLINE void rethrow_of_rank(int rank, std::exception_ptr error) {
    try {
        std::rethrow_exception(error);
    } catch (CommunicationError const&) {
        throw;  // names its ranks
    } catch (UsageError const& e) {
        fail<UsageError>("rank {}: {}", rank, e.what());
    } catch (std::exception const& e) {
        fail("rank {}: {}", rank, e.what());
    } catch (...) {
        fail("rank {}: an exception of unknown type", rank);
    }
}

}  // namespace plait
