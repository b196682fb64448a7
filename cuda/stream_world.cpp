#include "cuda/stream_world.hpp"

#include "plait/comm/progress.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>

namespace plait::cuda {

namespace {

std::string written(CommunicationError const& why) {
    std::string text = fmt::format("fail {} {}", why.witness, why.ranks.size());
    for (int r : why.ranks) text += fmt::format(" {}", r);
    return text + " " + why.what();
}

CommunicationError read_failure(std::istringstream& in) {
    int witness = 0;
    std::size_t count = 0;
    in >> witness >> count;
    std::vector<int> ranks(std::min<std::size_t>(count, 1 << 20));
    for (auto& r : ranks) in >> r;
    in.get();
    std::string what{std::istreambuf_iterator<char>(in), {}};
    return CommunicationError(what, ranks, witness);
}

}  // namespace

Track::Track(StreamWorld& world, std::string of, int rank_in_it, Members its_members)
    : context(std::move(of)),
      rank(rank_in_it),
      members(std::move(its_members)),
      stream(world.take_stream(context)),
      world_(world),
      marker_(world.take_stream(context + " marks")),
      marks_(world.machine().allocate_host(8)),
      calls_(mark_count) {
    std::memset(marks_.get(), 0, 8);
    world_.add(*this);
}

Track::~Track() {
    try {
        world_.machine().finish(world_.machine().record(marker_));
    } catch (std::exception const&) {}
    world_.remove(*this);
    world_.spare_streams_.insert(world_.spare_streams_.end(), {stream, marker_});
}

void Track::begin(Call const& call, Machine::Event before) {
    present_ = mark_of(call);
    {
        std::lock_guard lock(mutex_);
        calls_[present_ - 1] = call;
    }
    auto& machine = world_.machine();
    machine.wait(stream, before);
    mark(0, machine.record(stream));
}

Machine::Event Track::end() {
    auto event = world_.machine().record(stream);
    mark(1, event);
    return event;
}

void Track::mark(int which, Machine::Event at) {
    auto& machine = world_.machine();
    machine.wait(marker_, at);
    machine.copy_out(marker_, marks_.get() + 4 * which, world_.numbers() + std::int64_t{4} * present_, 4);
}

Track::Marks Track::marks() const {
    auto* words = reinterpret_cast<std::uint32_t*>(marks_.get());
    auto word = [&](int i) { return std::atomic_ref(words[i]).load(std::memory_order_relaxed); };
    // The end first, so that a call that ends meanwhile is not taken for one that has ended before.
    auto const ended = word(1);
    return {.began = word(0), .ended = ended};
}

Call Track::call_of(std::uint32_t mark) const {
    std::lock_guard lock(mutex_);
    return mark ? calls_[mark - 1] : Call();
}

StreamWorld::StreamWorld(std::shared_ptr<Machine> machine, Place place, StreamOptions options,
                         std::unique_ptr<BoardServer> server)
    : machine_(std::move(machine)), place_(std::move(place)), options_(options), server_(std::move(server)) {
    std::int64_t const count = Track::mark_count + 1, bytes = 4 * count;
    numbers_ = machine_->allocate(bytes);
    auto host = machine_->allocate_host(bytes);
    for (std::int64_t i = 0; i < count; ++i) {
        auto n = static_cast<std::uint32_t>(i);
        std::memcpy(host.get() + 4 * i, &n, 4);
    }
    machine_->copy_in(Machine::kernels, numbers_.get(), host.get(), bytes);
    machine_->finish(machine_->record(Machine::kernels));
    if (size() > 1) {
        board_ = std::make_unique<Board>(place_, options_.limit_seconds);
        news_ = std::make_unique<Board>(place_, options_.limit_seconds, Board::Role::listener);
        listener_ = std::thread([this] { listen(); });
    }
    watcher_ = machine_->add_watcher([this](double waited) { watch(waited); });
}

StreamWorld::~StreamWorld() {
    machine_->remove_watcher(watcher_);
    closing_ = true;
    if (listener_.joinable()) {
        news_->interrupt();
        listener_.join();
    }
    if (failed_) abort_all();
    if (server_) server_->patience = failed_ ? 2 : options_.limit_seconds;
}

void StreamWorld::listen() {
    int heard = 0;
    try {
        while (!closing_) {
            auto news = news_->get(Board::news, 60, heard + 1);
            if (!news) continue;
            for (; heard < static_cast<int>(news->size()); ++heard)
                hear((*news)[static_cast<std::size_t>(heard)]);
        }
    } catch (Error const& e) {
        if (closing_) return;
        std::lock_guard lock(mutex_);
        if (!failure_) failure_ = CommunicationError(e.what(), {0}, place_.rank == 0 ? 0 : 1);
        failed_ = true;
    }
}

void StreamWorld::hear(std::string const& news) {
    std::istringstream in(news);
    std::string what;
    in >> what;
    if (what == "ask") {
        int number = 0;
        in >> number;
        return news_->put(fmt::format("status/{}/{}", number, rank()), status());
    }
    std::optional<CommunicationError> why;
    if (what == "fail") why = read_failure(in);
    if (what == "lost") {
        int r = 0;
        in >> r;
        why =
            CommunicationError(fmt::format("world: rank {} has gone: its process has ended", r), {r}, r == 0);
    }
    if (!why) return;
    std::lock_guard lock(mutex_);
    if (!failure_) failure_ = why;
    failed_ = true;
}

std::optional<CommunicationError> StreamWorld::failure() const {
    std::lock_guard lock(mutex_);
    return failure_;
}

void StreamWorld::abort_all() noexcept {
    if (std::exchange(aborted_, true)) return;
    for (auto& wire : wires_) wire->abort();
    for (auto& lane : lanes_) lane->abort();
}

void StreamWorld::check() {
    if (!failed_) return;
    abort_all();
    throw *failure();
}

void StreamWorld::tell(CommunicationError const& why) noexcept {
    if (!failed_ && board_) {
        // The first failure is the one that stands first on the board.
        try {
            board_->append(Board::news, written(why));
            auto const end = Clock::now() + std::chrono::seconds(5);
            while (!failed_ && Clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        } catch (Error const&) {}
    }
    {
        std::lock_guard lock(mutex_);
        if (!failure_) failure_ = why;
        failed_ = true;
    }
    abort_all();
}

void StreamWorld::fail(CommunicationError const& why) {
    tell(why);
    throw *failure();
}

void StreamWorld::wait(std::function<bool()> const& done, std::function<void()> const& overdue) {
    auto const begin = Clock::now();
    for (Backoff backoff; !done(); backoff.pause()) {
        std::chrono::duration<double> const waited = Clock::now() - begin;
        watch(waited.count());
        if (waited.count() > options_.limit_seconds) overdue();
    }
}

void StreamWorld::add(Track& track) {
    std::lock_guard lock(mutex_);
    watched_.push_back({.track = &track});
}

void StreamWorld::remove(Track& track) {
    std::lock_guard lock(mutex_);
    watched_.remove_if([&](Watched const& w) { return w.track == &track; });
}

Machine::Stream StreamWorld::take_stream(std::string const& name) {
    if (spare_streams_.empty()) return machine_->add_stream(name);
    auto stream = spare_streams_.back();
    spare_streams_.pop_back();
    return stream;
}

int StreamWorld::add_poll(std::function<void()> poll) {
    polls_[++next_poll_] = std::move(poll);
    return next_poll_;
}

Wire& StreamWorld::keep(std::unique_ptr<Wire> wire) { return *wires_.emplace_back(std::move(wire)); }
Lane& StreamWorld::keep(std::unique_ptr<Lane> lane) { return *lanes_.emplace_back(std::move(lane)); }

void StreamWorld::watch(double waited) {
    check();
    // A wait begins anew: what was seen at the end of the last one may be of another replay.
    if (waited < std::exchange(waited_, waited)) {
        for (auto& w : watched_) w.since = Clock::now();
        look_at_ = {};
    }
    for (auto const& [number, poll] : polls_) poll();
    if (Clock::now() < look_at_) return;
    look_at_ = Clock::now() + std::chrono::milliseconds(2);
    look();
    // One after the other, so that of all who wait one tells.
    double const limit = options_.limit_seconds + 0.1 * std::min(rank(), 19);
    if (waited < limit || Clock::now() < ask_at_) return;
    for (auto const& w : watched_) {
        std::chrono::duration<double> const stays = Clock::now() - w.since;
        if (w.marks.began == w.marks.ended || stays.count() < limit) continue;
        overdue(w, stays.count() < 2 * limit);
        ask_at_ = Clock::now() + std::chrono::milliseconds(500);
        return;
    }
}

void StreamWorld::look() {
    for (auto& w : watched_) {
        auto marks = w.track->marks();
        if (marks == w.marks) continue;
        w.marks = marks;
        w.since = Clock::now();
    }
    std::string error;
    for (auto& wire : wires_)
        if (error.empty()) error = wire->error();
    for (auto& lane : lanes_)
        if (error.empty()) error = lane->error();
    if (error.empty()) return;
    // Often it is what another rank's end looks like from here, of which the board tells more.
    for (int i = 0; i < 1000 && !failed_; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    fail(failure_of_rank(rank(), error));
}

std::string StreamWorld::status() const {
    std::lock_guard lock(mutex_);
    std::string text;
    for (auto const& w : watched_) {
        auto const marks = w.track->marks();
        auto const call = w.track->call_of(marks.began);
        text += fmt::format("{} {} {} {}: {}, {}\n", w.track->context, marks.began, marks.ended,
                            w.track->members.name, to_string(call), number_text(call));
    }
    return text;
}

void StreamWorld::overdue(Watched const& w, bool may_wait) {
    auto const call = w.track->call_of(w.marks.began);
    std::vector<int> all(static_cast<std::size_t>(w.track->members.size())), late, there, idle;
    for (std::size_t r = 0; r < all.size(); ++r) all[r] = static_cast<int>(r);
    std::vector<int> const asked = call.is_message() ? std::vector{std::min(w.track->rank, call.peer),
                                                                   std::max(w.track->rank, call.peer)}
                                                     : all;
    std::string more;
    if (board_) {
        auto const number = board_->append("asks", "");
        board_->append(Board::news, fmt::format("ask {}", number));
        auto const end = Clock::now() + std::chrono::seconds(2);
        for (int r : asked) {
            if (r == w.track->rank) {
                there.push_back(r);
                continue;
            }
            std::chrono::duration<double> const left = end - Clock::now();
            auto answer = board_->get(
                fmt::format("status/{}/{}", number, w.track->members.world[static_cast<std::size_t>(r)]),
                std::max(0.0, left.count()));
            check();
            std::istringstream lines(answer ? answer->front() : "");
            bool in_it = false;
            std::string in_other;
            for (std::string context; lines >> context;) {
                std::uint32_t began = 0, ended = 0;
                std::string text;
                lines >> began >> ended;
                std::getline(lines, text);
                if (began == ended) continue;
                if (context == w.track->context && began == w.marks.began) in_it = true;
                else in_other = text;
            }
            if (in_it) {
                there.push_back(r);
                continue;
            }
            late.push_back(r);
            if (in_other.empty()) idle.push_back(r);
            else more += fmt::format("; {} waits in{}", w.track->members.rank(r), in_other);
        }
    }
    if (late.empty())
        fail(CommunicationError(
            fmt::format(
                "{}: {}, {}, does not end after {:.3g} s, though all its ranks are in it: a link or a "
                "GPU has failed",
                w.track->members.name, to_string(call), number_text(call), options_.limit_seconds),
            w.track->members.world, rank()));
    // A rank that waits itself is not what is missing; those who wait for the missing one will tell.
    if (idle.empty() && may_wait) return;
    fail(w.track->members.missing(idle.empty() ? late : idle, there, call, options_.limit_seconds, more));
}

}  // namespace plait::cuda
