#include "cuda/stream_communicator.hpp"

#include "cuda/launch.hpp"
#include "cuda/stream_ticket.hpp"
#include "plait/comm/ordered.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace plait::cuda {

namespace {

Members world_members(StreamWorld const& world) {
    Members m{.name = "world", .world = {}, .world_size = world.size()};
    m.world.resize(static_cast<std::size_t>(world.size()));
    std::iota(m.world.begin(), m.world.end(), 0);
    return m;
}

std::int64_t rounded(std::int64_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

StreamCommunicator::StreamCommunicator(std::shared_ptr<StreamWorld> world, std::unique_ptr<Wire> wire)
    : StreamCommunicator(world, std::move(wire), world_members(*world), world->rank(), "w") {}

StreamCommunicator::StreamCommunicator(std::shared_ptr<StreamWorld> world, std::unique_ptr<Wire> wire,
                                       Members members, int rank, std::string context)
    : Communicator(rank, members.size(), members.name),
      world_(std::move(world)),
      members_(std::move(members)),
      context_(std::move(context)),
      part_(context_ != "w"),
      exceptions_(std::uncaught_exceptions()),
      wire_(wire ? &world_->keep(std::move(wire)) : nullptr),
      track_(*world_, context_, rank, members_) {
    check(size() == 1 || wire_, "{}: {} ranks without a wire", name(), size());
    poll_ = world_->add_poll([this] { advance(); });
}

StreamCommunicator::~StreamCommunicator() {
    // A part leaves it to its world to tell: whoever catches the exception there knows the message.
    bool thrown = std::uncaught_exceptions() > exceptions_;
    if (thrown && !part_) world_->tell(members_.unwinding(rank(), nullptr));
    for (auto const& weak : posted_) {
        if (auto ticket = weak.lock()) ticket->settle();
    }
    world_->remove_poll(poll_);
}

std::unique_ptr<Communicator> StreamCommunicator::part(Part const& p) {
    Members members{.name = p.name, .world = {}, .world_size = members_.world_size};
    for (int r : p.ranks) members.world.push_back(members_.world[static_cast<std::size_t>(r)]);
    // All ranks have split as often, so this names the part for all of them.
    auto context = fmt::format("{}.{}.{}", context_, collectives_, p.color);
    auto wire = p.ranks.size() > 1 ? wire_->part(p.ranks, p.rank, context) : nullptr;
    return std::unique_ptr<Communicator>(
        new StreamCommunicator(world_, std::move(wire), std::move(members), p.rank, std::move(context)));
}

StreamCommunicator::Staging* StreamCommunicator::staging(std::int64_t bytes) {
    for (auto& s : staging_) {
        if (s.taken || s.bytes < bytes) continue;
        s.taken = true;
        return &s;
    }
    auto size = static_cast<std::int64_t>(
        std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 4096))));
    auto& machine = world_->machine();
    return &staging_.emplace_back(
        Staging{machine.allocate(size), machine.allocate_host(size + 4), size, true});
}

StreamCommunicator::Messages& StreamCommunicator::messages(int peer, bool sends) {
    std::pair const key(peer, sends);
    if (auto it = messages_.find(key); it != messages_.end()) return *it->second;
    auto way = sends ? fmt::format("{}>{}", rank(), peer) : fmt::format("{}>{}", peer, rank());
    auto& lane = world_->keep(wire_->lane(peer, sends));
    auto made = std::make_unique<Messages>(*world_, lane, context_ + "/" + way, rank(), members_);
    return *(messages_[key] = std::move(made));
}

Pending StreamCommunicator::start(Call call, ConstView in, View out) {
    std::erase_if(posted_, [](auto const& weak) { return weak.expired(); });
    auto& machine = world_->machine();
    bool const message = call.is_message();
    Messages* way = message ? &messages(call.peer, call.verb == Verb::send) : nullptr;
    call.number = message ? ++way->count : ++collectives_;
    sequence_.add(call);

    bool in_device = in.count && machine.is_device(in.data),
         out_device = out.count && machine.is_device(out.data);
    check<UsageError>(!in.count || !out.count || in_device == out_device,
                      "{}: in and out lie in {} and {} memory; use one kind", name_of(call.verb),
                      in_device ? "device" : "host", out_device ? "device" : "host");
    auto ticket = std::make_shared<StreamTicket>(*this, world_, call);
    posted_.push_back(ticket);
    bool const barrier = call.verb == Verb::barrier;
    if (in_device || out_device) {
        ticket->in = in.data, ticket->out = out.data;
    } else if (in.count || out.count || barrier) {
        // A barrier is a word from everyone.
        ticket->in_bytes = barrier ? 4 : in.bytes();
        ticket->out_bytes = barrier ? std::int64_t{4} * size() : out.bytes();
        auto const first = rounded(ticket->in_bytes);
        auto* s = ticket->staging = staging(first + ticket->out_bytes);
        ticket->in = s->device.get();
        ticket->out = call.verb == Verb::broadcast ? s->device.get() : s->device.get() + first;
        ticket->to = out.data;
        std::memset(s->host.get() + s->bytes, 0, 4);
        if (in.count) std::memcpy(s->host.get(), in.data, static_cast<std::size_t>(in.bytes()));
    }
    try {
        world_->check();
        if (ticket->staging && !message) {
            bool split = call.verb == Verb::split;
            if (size() > 1 && (split || ++host_calls_ % world_->options().check_every == 0)) verify(call);
        }
        ticket->ready = machine.record(Machine::kernels);
        if (!message) {
            put(*ticket);
        } else if (way->queue.empty() && way->lane.ready()) {
            put(*ticket, *way);
        } else {
            way->queue.push_back(ticket);
        }
    } catch (CommunicationError const&) {
        ticket->error = std::current_exception();
    }
    return Pending(ticket);
}

template <class F>
void StreamCommunicator::put_between(StreamTicket& t, Track& track, F const& f) {
    auto& machine = world_->machine();
    track.begin(t.call, t.ready);
    auto* s = t.staging;
    if (s && t.in_bytes) machine.copy_in(track.stream, s->device.get(), s->host.get(), t.in_bytes);
    f();
    if (s) {
        if (t.to) machine.copy_out(track.stream, s->host.get(), t.out, t.out_bytes);
        machine.copy_out(track.stream, s->host.get() + s->bytes, world_->numbers() + 4, 4);
    }
    t.done_at = track.end();
}

void StreamCommunicator::put(StreamTicket& t) {
    put_between(t, track_, [&] { move(t.call, t.in, t.out); });
    // Recorded steps begin after what `kernels` did, so none meets this call in the library or the scratch.
    if (t.staging) world_->machine().wait(Machine::kernels, t.done_at);
}

void StreamCommunicator::put(StreamTicket& t, Messages& m) {
    auto const bytes = bytes_of(t.call.dtype, t.call.count);
    put_between(t, m.track, [&] {
        if (!bytes) return;
        if (t.call.verb == Verb::send) m.lane.send(m.track.stream, t.in, bytes);
        else m.lane.recv(m.track.stream, t.out, bytes);
    });
}

void StreamCommunicator::advance() {
    for (auto& [way, m] : messages_) {
        if (m->queue.empty() || !m->lane.ready()) continue;
        auto queue = std::exchange(m->queue, {});
        for (auto const& t : queue) put(*t, *m);
    }
}

std::int64_t StreamCommunicator::traffic_of(Call const& call) const {
    auto const bytes = bytes_of(call.dtype, call.count), others = std::int64_t{size()} - 1;
    switch (call.verb) {
        case Verb::all_reduce: {
            auto [first, last] = part_of(call.count, rank(), size());
            auto part = bytes_of(call.dtype, last - first);
            return bytes - part + others * part;
        }
        case Verb::reduce_scatter:
        case Verb::all_gather:
        case Verb::all_to_all:
            return others * bytes;
        case Verb::broadcast:
            return call.peer == rank() ? others * bytes : 0;
        case Verb::send:
            return bytes;
        default:
            return 0;
    }
}

std::byte* StreamCommunicator::scratch(std::int64_t bytes) {
    if (scratch_bytes_ < bytes) {
        scratch_.push_back(world_->machine().allocate(bytes));
        scratch_bytes_ = bytes;
    }
    return scratch_.back().get();
}

void StreamCommunicator::copy(std::byte* to, std::byte const* from, std::int64_t bytes) {
    if (to != from && bytes) world_->machine().queue(track_.stream).copy(to, from, bytes);
}

template <class Out, class In>
void StreamCommunicator::exchange(Out const& out, In const& in) {
    wire_->begin_group();
    for (int step = 1; step < size(); ++step) {
        // Everyone begins with another one.
        int to = (rank() + step) % size(), from = (rank() + size() - step) % size();
        if (auto [data, bytes] = out(to); bytes) wire_->send(track_.stream, data, bytes, to);
        if (auto [data, bytes] = in(from); bytes) wire_->recv(track_.stream, data, bytes, from);
    }
    wire_->end_group();
}

template <class PartOf>
void StreamCommunicator::reduce(Call const& call, std::byte const* in, std::byte* out,
                                PartOf const& part_of_rank) {
    auto const element = bytes_of(call.dtype, 1), lanes = 16 / element;
    auto const segment =
        std::max(lanes, world_->options().scratch_bytes / (element * size()) / lanes * lanes);
    std::int64_t longest = 0;
    for (int r = 0; r < size(); ++r)
        longest = std::max(longest, part_of_rank(r).second - part_of_rank(r).first);
    auto const stride = std::min((longest + lanes - 1) / lanes * lanes, segment);
    auto* rows = scratch(stride * element * size());
    for (std::int64_t offset = 0; offset < longest; offset += segment) {
        auto piece = [&](int r) {
            auto [first, last] = part_of_rank(r);
            first = std::min(first + offset, last);
            return std::pair(first, std::min(segment, last - first));
        };
        auto [first, n] = piece(rank());
        exchange([&](int r) { return std::pair(in + piece(r).first * element, piece(r).second * element); },
                 [&, n = n](int r) { return std::pair(rows + r * stride * element, n * element); });
        auto sum = [&, n = n]<class T>(T const* own) {
            auto launch_of = [&]<int levels>(std::integral_constant<int, levels>) {
                launch(world_->machine().queue(track_.stream),
                       TreeSum<T, levels>{.rows = reinterpret_cast<T const*>(rows),
                                          .stride = stride,
                                          .own = own,
                                          .rank = rank(),
                                          .ranks = size(),
                                          .max = call.combine == Combine::max,
                                          .out = reinterpret_cast<T*>(out + offset * element),
                                          .n = n});
            };
            if (size() < 4 << few_levels) launch_of(std::integral_constant<int, few_levels>());
            else launch_of(std::integral_constant<int, most_levels>());
        };
        auto const* own = in + first * element;
        switch (call.dtype) {
            case DType::f32:
                sum(reinterpret_cast<float const*>(own));
                break;
            case DType::bf16:
                sum(reinterpret_cast<Bf16 const*>(own));
                break;
            case DType::f64:
                sum(reinterpret_cast<double const*>(own));
                break;
            case DType::i32:
                sum(reinterpret_cast<std::int32_t const*>(own));
                break;
            case DType::i64:
                sum(reinterpret_cast<std::int64_t const*>(own));
                break;
            case DType::u8:
                break;  // refused by check_combine
        }
    }
}

void StreamCommunicator::move(Call const& call, std::byte const* in, std::byte* out) {
    auto const element = bytes_of(call.dtype, 1);
    auto const block = call.verb == Verb::barrier ? 4 : call.count * element;
    if (!block) return;
    if (size() == 1) return copy(out, in, block);
    auto const stream = track_.stream;
    // The order of integers is free, and libraries lose the NaN of a max.
    bool const free =
        !is_floating(call.dtype) || (!world_->options().ordered && call.combine != Combine::max);
    auto of = [&](int r) { return part_of(call.count, r, size()); };
    switch (call.verb) {
        case Verb::all_reduce: {
            if (free) return wire_->all_reduce(stream, in, out, call.count, call.dtype, call.combine);
            reduce(call, in, out + of(rank()).first * element, of);
            auto at = [&](int r) { return out + of(r).first * element; };
            auto bytes = [&](int r) { return (of(r).second - of(r).first) * element; };
            if (call.count % size() == 0) return wire_->all_gather(stream, at(rank()), out, bytes(rank()));
            return exchange([&](int) { return std::pair(at(rank()), bytes(rank())); },
                            [&](int r) { return std::pair(at(r), bytes(r)); });
        }
        case Verb::reduce_scatter:
            if (free) return wire_->reduce_scatter(stream, in, out, call.count, call.dtype, call.combine);
            return reduce(call, in, out,
                          [&](int r) { return std::pair(r * call.count, (r + 1) * call.count); });
        case Verb::all_gather:
        case Verb::split:
        case Verb::barrier:
            return wire_->all_gather(stream, in, out, block);
        case Verb::all_to_all:
            copy(out + rank() * block, in + rank() * block, block);
            return exchange([&](int r) { return std::pair(in + r * block, block); },
                            [&](int r) { return std::pair(out + r * block, block); });
        case Verb::broadcast:
            return wire_->broadcast(stream, out, block, call.peer);
        default:
            return;
    }
}

}  // namespace plait::cuda
