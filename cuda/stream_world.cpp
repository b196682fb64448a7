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

StreamWorld::StreamWorld(std::shared_ptr<Machine> machine, Place place, StreamOptions options,
                         std::unique_ptr<BoardServer> server)
    : machine_(std::move(machine)),
      place_(std::move(place)),
      options_(options),
      exceptions_(std::uncaught_exceptions()),
      server_(std::move(server)) {
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
    leave();
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
        while (!closing_ && !failed_) {
            auto news = news_->get(Board::news, 60, heard + 1);
            if (!news) continue;
            for (; heard < static_cast<int>(news->size()); ++heard)
                hear((*news)[static_cast<std::size_t>(heard)]);
        }
    } catch (Error const& e) {
        if (closing_) return;
        hear(CommunicationError(e.what(), {0}, place_.rank == 0 ? 0 : 1));
    }
    auto const end = Clock::now() + std::chrono::duration<double>(options_.abort_seconds);
    while (!closing_ && !aborted_ && Clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (!closing_) abort_all();
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
    if (why) hear(*why);
}

void StreamWorld::hear(CommunicationError const& why) {
    std::lock_guard lock(mutex_);
    if (!failure_) failure_ = why;
    failed_ = true;
}

std::optional<CommunicationError> StreamWorld::failure() const {
    std::lock_guard lock(mutex_);
    return failure_;
}

void StreamWorld::abort_all() noexcept {
    std::vector<Link*> links;
    {
        std::lock_guard lock(mutex_);
        if (aborted_.exchange(true)) return;
        for (auto& link : links_) links.push_back(link.get());
    }
    for (auto* link : links) link->abort();
    // Mostly it is done in a moment, and the GPU free to be waited for.
    auto const end = Clock::now() + std::chrono::seconds(2);
    for (auto* link : links)
        while (!link->ended() && Clock::now() < end)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void StreamWorld::leave() noexcept {
    if (failed_) return;
    for (auto& link : links_) link->leave();
    auto const end = Clock::now() + std::chrono::duration<double>(options_.limit_seconds);
    for (auto& link : links_)
        for (Backoff backoff; !failed_ && !link->ended() && Clock::now() < end;) backoff.pause();
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
    hear(why);
    abort_all();
}

void StreamWorld::fail(CommunicationError const& why) {
    tell(why);
    throw *failure();
}

void StreamWorld::wait(std::function<bool()> const& done, std::function<void()> const& overdue) {
    auto const begin = Clock::now();
    bool first = true;
    for (Backoff backoff; !done(); backoff.pause()) {
        std::chrono::duration<double> const waited = Clock::now() - begin;
        watch(std::exchange(first, false) ? 0 : waited.count());
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
    if (spare_streams_.empty()) return machine_->add_stream(name, false);  // its track tells how far it is
    auto stream = spare_streams_.back();
    spare_streams_.pop_back();
    return stream;
}

int StreamWorld::add_poll(std::function<void()> poll) {
    polls_[++next_poll_] = std::move(poll);
    return next_poll_;
}

void StreamWorld::add(std::unique_ptr<Link> link) {
    std::lock_guard lock(mutex_);
    if (aborted_) link->abort();
    links_.push_back(std::move(link));
}

}  // namespace plait::cuda
