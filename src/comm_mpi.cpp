#include "plait/comm/mpi.hpp"

#ifdef PLAIT_HAS_MPI

#include "comm_mpi.hpp"
#include "plait/comm/self.hpp"

namespace plait {

namespace {

using namespace mpi;

/// Bytes of one rank's piece that are reduced at a time, which bounds the scratch to this times the ranks.
constexpr std::int64_t segment_bytes = 256 << 10;

class MpiCommunicator final : public Communicator, Watch {
  public:
    MpiCommunicator(std::shared_ptr<World> world, Members members, int rank, int context)
        : Communicator(rank, members.size(), members.name),
          world_(std::move(world)),
          members_(std::move(members)),
          context_(context),
          exceptions_(std::uncaught_exceptions()),
          arrived_(static_cast<std::size_t>(size()), true),
          progress_(std::make_unique<ProgressThread>([this](Operation& op) { run(op); },
                                                     [this] { return advance(); })) {}

    ~MpiCommunicator() override {
        // A part leaves it to its world to tell: whoever catches the exception there knows the message.
        bool thrown = std::uncaught_exceptions() > exceptions_;
        if (thrown && context_ == world_context) unwinding(nullptr);
        for (auto const& weak : posted_) {
            if (auto op = weak.lock()) op->settle();
        }
        progress_.reset();
        for (int r = 0; r < size(); ++r) {
            if (r != rank()) world_->leave(world_rank(r), tag(Channel::collective), thrown);
        }
    }

    Pending start(Call call, ConstView in, View out) override {
        if (!call.is_message()) call.number = ++collectives_;
        Watch& watch = *this;
        auto op = std::make_shared<Operation>(call, in, out, watch, world_->limit_seconds);
        std::erase_if(posted_, [](auto const& weak) { return weak.expired(); });
        posted_.push_back(op);
        if (call.is_message()) post_message(op);
        else progress_->post(op);
        return Pending(op);
    }

    /// Ends the world, from outside of its calls.
    void fail(CommunicationError const& why) { world_->fail(why); }

  protected:
    std::int64_t propose_context() override { return world_->next_context; }

    std::unique_ptr<Communicator> part(Part const& p) override {
        world_->next_context = static_cast<int>(p.context) + 1;
        if (p.ranks.size() == 1) return std::make_unique<SelfCommunicator>(p.name);
        Members members{.name = p.name, .world = {}, .world_size = members_.world_size};
        for (int r : p.ranks) members.world.push_back(world_rank(r));
        return std::make_unique<MpiCommunicator>(world_, std::move(members), p.rank,
                                                 static_cast<int>(p.context));
    }

  private:
    enum class Channel { collective, from_sender, from_receiver };
    struct Message {
        Message(World& world, std::shared_ptr<Operation> o)
            : op(std::move(o)), heads(world), payload(world) {}
        std::shared_ptr<Operation> op;  // until it is done
        Call theirs;
        Requests heads, payload;
        bool agreed = false;
    };

    int world_rank(int r) const { return members_.world[static_cast<std::size_t>(r)]; }
    int tag(Channel channel) const { return 4 * context_ + static_cast<int>(channel); }

    /// Who has not come to a call, who has, and the call.
    struct Late {
        std::vector<int> late{}, there{};
        Call call{};
    };
    Late late_for(Operation const& op) {
        std::lock_guard lock(mutex_);
        if (op.call.is_message()) {
            for (auto const& m : active_)
                if (m->op.get() == &op && !m->agreed) return {{op.call.peer}, {rank()}, op.call};
            return {};
        }
        Late who{.call = present_};
        for (int r = 0; r < size(); ++r)
            (arrived_[static_cast<std::size_t>(r)] ? who.there : who.late).push_back(r);
        return who;
    }

    /// All who wait for one rank run into the limit together, and so do those who wait for them. A rank that
    /// waits itself is not what is missing, and of those who know what is, the lowest speaks first.
    void overdue(Operation const& op) noexcept override {
        using Clock = Operation::Clock;
        auto const turn = std::chrono::milliseconds(100) * (1 + std::min(world_->rank, 19));
        auto const last = Clock::now() + std::chrono::duration<double>(world_->limit_seconds);
        for (;;) {
            std::vector<int> asked;
            for (int r : late_for(op).late) asked.push_back(world_rank(r));
            if (asked.empty()) return;
            world_->ask(asked);
            for (auto const end = Clock::now() + turn; Clock::now() < end;) {
                world_->waits(asked.front());  // hears what has come
                if (world_->failed()) return;
                std::this_thread::sleep_for(std::chrono::milliseconds(2));
            }
            auto who = late_for(op);
            if (who.late.empty()) return;
            auto missing = who.late;
            std::erase_if(missing, [&](int r) { return world_->waits(world_rank(r)); });
            // Where all wait for each other, all are named.
            if (missing.empty() && Clock::now() < last) continue;
            if (!missing.empty()) who.late = missing;
            world_->fail(members_.missing(who.late, who.there, who.call, world_->limit_seconds));
            return;
        }
    }
    void waits(bool now) noexcept override { world_->waits(now); }
    void unwinding(Call const* during) noexcept override { world_->fail(members_.unwinding(rank(), during)); }

    /// Returns when `requests` are done; messages go on meanwhile.
    void finish(Requests& requests) {
        Backoff backoff;
        while (!world_->test(requests)) {
            world_->check_failure();
            advance();
            backoff.pause();
        }
    }

    /// All ranks tell each other what they call.
    void meet(Call const& mine) {
        std::vector<Call> calls(static_cast<std::size_t>(size()), mine);
        std::deque<Requests> heads;
        Requests own(*world_);
        for (int r = 0; r < size(); ++r) {
            heads.emplace_back(*world_);
            if (r == rank()) continue;
            world_->send_head(own, world_rank(r), tag(Channel::collective), mine);
            world_->recv_head(heads[static_cast<std::size_t>(r)], world_rank(r), tag(Channel::collective),
                              calls[static_cast<std::size_t>(r)]);
        }
        {
            std::lock_guard lock(mutex_);
            present_ = mine;
            arrived_.assign(calls.size(), false);
            arrived_[static_cast<std::size_t>(rank())] = true;
        }
        Backoff backoff;
        for (int r = 0; r < size();) {
            if (world_->test(heads[static_cast<std::size_t>(r)])) {
                std::lock_guard lock(mutex_);
                arrived_[static_cast<std::size_t>(r++)] = true;
                continue;
            }
            for (int s = r + 1; s < size(); ++s) {
                if (!world_->test(heads[static_cast<std::size_t>(s)])) continue;
                std::lock_guard lock(mutex_);
                arrived_[static_cast<std::size_t>(s)] = true;
            }
            world_->check_failure();
            advance();
            backoff.pause();
        }
        finish(own);
        if (auto wrong = members_.mismatch(calls)) world_->fail(*wrong);
        world_->check_failure();
    }

    void run(Operation& op) {
        world_->check_failure();
        meet(op.call);
        auto sent = move(op);
        traffic_.add(op.call.verb, op.call.dtype, op.call.verb == Verb::split ? 0 : sent);
        op.complete();
    }

    /// Sends out(r) to every other rank r and receives into in(r) from it; returns the bytes sent.
    template <class Out, class In>
    std::int64_t exchange(Out const& out, In const& in) {
        Requests requests(*world_);
        std::int64_t sent = 0;
        for (int r = 0; r < size(); ++r) {
            if (r == rank()) continue;
            View to = in(r);
            ConstView from = out(r);
            world_->recv(requests, world_rank(r), tag(Channel::collective), to);
            world_->send(requests, world_rank(r), tag(Channel::collective), from);
            sent += from.bytes();
        }
        finish(requests);
        return sent;
    }

    /// The elements [first, last) = part_of_rank(r) of all ranks' input go to rank r, which combines them
    /// into `y`, segment by segment; done(piece) may send a segment on, piece(r) being r's first element and
    /// count. Returns the bytes sent.
    template <class PartOf, class Done>
    std::int64_t reduce(Operation const& op, PartOf const& part_of_rank, std::byte* y, Done const& done) {
        auto dtype = op.call.dtype;
        auto segment = segment_bytes / bytes_of(dtype, 1);
        auto [own, own_end] = part_of_rank(rank());
        std::int64_t longest = 0, sent = 0;
        for (int r = 0; r < size(); ++r)
            longest = std::max(longest, part_of_rank(r).second - part_of_rank(r).first);
        scratch_.resize(
            std::max(scratch_.size(),
                     static_cast<std::size_t>(size() * std::min(longest, segment) * bytes_of(dtype, 1))));
        for (std::int64_t offset = 0; offset < longest; offset += segment) {
            auto piece = [&](int r) {
                auto [first, last] = part_of_rank(r);
                first = std::min(first + offset, last);
                return std::pair(first, std::min(segment, last - first));
            };
            auto [first, n] = piece(rank());
            std::vector<std::byte const*> inputs;
            for (int r = 0; r < size(); ++r) {
                inputs.push_back(r == rank() ? op.in.data + bytes_of(dtype, first)
                                             : scratch_.data() + r * bytes_of(dtype, n));
            }
            sent += exchange(
                [&](int r) {
                    return ConstView(op.in.data + bytes_of(dtype, piece(r).first), piece(r).second, dtype);
                },
                [&, n = n](int r) { return View(scratch_.data() + r * bytes_of(dtype, n), n, dtype); });
            ordered_combine(op.call.combine, dtype, inputs, y + bytes_of(dtype, first - own), n);
            sent += done(piece);
        }
        return sent;
    }

    std::int64_t move(Operation const& op) {
        auto const& call = op.call;
        auto at = [&](auto view, std::int64_t first, std::int64_t count) {
            view.data += bytes_of(call.dtype, first);
            view.count = count;
            return view;
        };
        auto blocks = [&](auto view) { return [=, n = call.count](int r) { return at(view, r * n, n); }; };
        auto whole = [&](ConstView view) { return [=](int) { return view; }; };
        auto keep = [&](ConstView from) {  // this rank's own block
            View to = at(op.out, rank() * call.count, call.count);
            if (to.data != from.data && from.count) {
                std::memcpy(to.data, from.data, static_cast<std::size_t>(from.bytes()));
            }
        };
        switch (call.verb) {
            case Verb::all_reduce: {
                auto mine = [&](int r) { return part_of(call.count, r, size()); };
                return reduce(
                    op, mine, op.out.data + bytes_of(call.dtype, mine(rank()).first), [&](auto const& piece) {
                        auto out = [&](int r) { return at(op.out, piece(r).first, piece(r).second); };
                        return exchange([&](int) { return out(rank()); }, out);
                    });
            }
            case Verb::reduce_scatter: {
                auto mine = [&](int r) { return std::pair(r * call.count, (r + 1) * call.count); };
                return reduce(op, mine, op.out.data, [](auto const&) { return 0; });
            }
            case Verb::all_gather:
            case Verb::split:
                keep(op.in);
                return exchange(whole(op.in), blocks(op.out));
            case Verb::all_to_all:
                keep(at(op.in, rank() * call.count, call.count));
                return exchange(blocks(op.in), blocks(op.out));
            case Verb::broadcast: {
                bool root = call.peer == rank();
                return exchange(whole(root ? op.in : ConstView()),
                                [&](int r) { return r == call.peer ? op.out : View(); });
            }
            default:
                return 0;
        }
    }

    void post_message(std::shared_ptr<Operation> const& op) {
        auto& call = op->call;
        bool sends = call.verb == Verb::send;
        call.number = ++messages_[{call.peer, sends}];
        auto message = std::make_shared<Message>(*world_, op);
        int peer = world_rank(call.peer);
        world_->send_head(message->heads, peer, tag(sends ? Channel::from_sender : Channel::from_receiver),
                          call);
        world_->recv_head(message->heads, peer, tag(sends ? Channel::from_receiver : Channel::from_sender),
                          message->theirs);
        if (sends) world_->send(message->payload, peer, tag(Channel::from_sender), op->in);
        {
            std::lock_guard lock(mutex_);
            active_.push_back(std::move(message));
        }
        progress_->wake();
    }

    /// Moves the messages on, in the progress thread; true while there are some.
    bool advance() {
        std::vector<std::shared_ptr<Message>> active;
        {
            std::lock_guard lock(mutex_);
            active = active_;
        }
        if (active.empty()) return false;
        std::set<std::pair<int, bool>> waiting;  // lanes whose earlier message has not been met
        bool ended = false;
        for (auto const& m : active) {
            auto const& call = m->op->call;
            std::pair lane(call.peer, call.verb == Verb::send);
            if (waiting.contains(lane)) continue;
            try {
                world_->check_failure();
                if (!m->agreed) {
                    if (!world_->test(m->heads)) {
                        waiting.insert(lane);
                        continue;
                    }
                    if (auto wrong = members_.mismatch(rank(), call, m->theirs)) world_->fail(*wrong);
                    world_->check_failure();
                    {
                        std::lock_guard lock(mutex_);
                        m->agreed = true;
                    }
                    if (call.verb == Verb::recv) {
                        world_->recv(m->payload, world_rank(call.peer), tag(Channel::from_sender),
                                     m->op->out);
                    }
                }
                if (!world_->test(m->payload)) continue;
                traffic_.add(call.verb, call.dtype, call.verb == Verb::send ? m->op->in.bytes() : 0);
                end(*m, nullptr);
            } catch (...) {
                world_->give_up(m->payload);
                end(*m, std::current_exception());
            }
            ended = true;
        }
        if (!ended) return true;
        std::lock_guard lock(mutex_);
        std::erase_if(active_, [](auto const& m) { return !m->op; });
        return !active_.empty();
    }

    void end(Message& message, std::exception_ptr error) {
        std::shared_ptr<Operation> op;
        {
            std::lock_guard lock(mutex_);
            op = std::move(message.op);
        }
        if (error) op->complete(error);
        else op->complete();
    }

    std::shared_ptr<World> const world_;
    Members const members_;
    int const context_;
    int const exceptions_;
    std::uint64_t collectives_ = 0;
    std::map<std::pair<int, bool>, std::uint64_t> messages_;  // by peer, and whether sent
    std::vector<std::weak_ptr<Operation>> posted_;
    std::vector<std::byte> scratch_;

    std::mutex mutex_;  // of what follows
    Call present_;      // the collective under way, and who has come to it
    std::vector<bool> arrived_;
    std::vector<std::shared_ptr<Message>> active_;

    std::unique_ptr<ProgressThread> progress_;
};

}  // namespace

bool mpi_available() { return true; }

std::unique_ptr<Communicator> join_mpi(MpiOptions options) {
    auto world = std::make_shared<World>(options.limit_seconds);
    Members members{.name = "world", .world = {}, .world_size = world->size};
    for (int r = 0; r < world->size; ++r) members.world.push_back(r);
    int rank = world->rank;
    return std::make_unique<MpiCommunicator>(std::move(world), std::move(members), rank, world_context);
}

void run_mpi(std::function<void(Communicator&)> const& f, MpiOptions options) {
    auto communicator = join_mpi(options);
    auto& mpi = static_cast<MpiCommunicator&>(*communicator);
    int rank = mpi.rank();
    try {
        f(mpi);
    } catch (std::exception const& e) {
        mpi.fail(failure_of_rank(rank, e.what()));
        rethrow_of_rank(rank, std::current_exception());
    } catch (...) {
        mpi.fail(failure_of_rank(rank, "an exception of unknown type"));
        rethrow_of_rank(rank, std::current_exception());
    }
}

}  // namespace plait

#else

namespace plait {

bool mpi_available() { return false; }

std::unique_ptr<Communicator> join_mpi(MpiOptions) {
    fail<UsageError>(
        "this build has no MPI: configure with PLAIT_MPI=ON (Debian: libopenmpi-dev openmpi-bin)");
}

void run_mpi(std::function<void(Communicator&)> const&, MpiOptions options) { join_mpi(options); }

}  // namespace plait

#endif
