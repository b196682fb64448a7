#include "cuda/stream_world.hpp"

#include <cstring>

namespace plait::cuda {

Track::Track(StreamWorld& world, std::string of, int rank_in_it, Members its_members)
    : context(std::move(of)),
      rank(rank_in_it),
      members(std::move(its_members)),
      stream(world.take_stream(context)),
      world_(world),
      marker_(world.take_stream(context + " marks")),
      mark_(world.machine().allocate_host(4)),
      calls_(call_marks) {
    std::memset(mark_.get(), 0, 4);
    world_.add(*this);
}

Track::~Track() {
    try {
        world_.machine().finish(world_.machine().record(marker_));
    } catch (std::exception const&) {}
    world_.remove(*this);
    world_.spare_streams_.insert(world_.spare_streams_.end(), {stream, marker_});
}

std::uint32_t Track::next_mark(Call const& call) {
    std::uint32_t const mark = world_.machine().recording()
                                   ? call_marks + recorded_++ % recorded_marks + 1
                                   : static_cast<std::uint32_t>((call.number - 1) % call_marks + 1);
    std::lock_guard lock(mutex_);
    if (calls_.size() < mark) calls_.resize(mark);
    calls_[mark - 1] = call;
    return mark;
}

void Track::begin(Call const& call, Machine::Event before) {
    auto& machine = world_.machine();
    machine.wait(stream, before);
    write_mark(next_mark(call), machine.record(stream));
}

Machine::Event Track::end() {
    auto event = world_.machine().record(stream);
    write_mark(0, event);
    return event;
}

void Track::write_mark(std::uint32_t mark, Machine::Event at) {
    auto& machine = world_.machine();
    machine.wait(marker_, at);
    machine.copy_out(marker_, mark_.get(), world_.numbers() + std::int64_t{4} * mark, 4);
}

std::uint32_t Track::mark() const {
    return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(mark_.get())).load(std::memory_order_relaxed);
}

Call Track::call_of(std::uint32_t mark) const {
    std::lock_guard lock(mutex_);
    return mark ? calls_[mark - 1] : Call();
}

}  // namespace plait::cuda
