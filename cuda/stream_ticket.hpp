#pragma once

#include "cuda/stream_communicator.hpp"

#include <cstring>
#include <thread>

namespace plait::cuda {

/// A call on its way, until it was waited for.
class StreamTicket final : public Ticket {
  public:
    StreamTicket(StreamCommunicator& owner, std::shared_ptr<StreamWorld> world, Call c)
        : call(c), owner_(owner), world_(std::move(world)) {}

    Call const call;
    Machine::Event ready = -1, done_at = -1;  // done_at: once it is put on its stream
    std::byte const* in = nullptr;            // on the device
    std::byte* out = nullptr;
    std::exception_ptr error;

    // Of host memory:
    StreamCommunicator::Staging* staging = nullptr;
    std::byte* to = nullptr;
    std::int64_t in_bytes = 0, out_bytes = 0;

    /// Device memory is waited for by a stream, which the caller does not wait for.
    bool done() const override {
        if (waited_ || error) return true;
        if (done_at < 0) return false;
        if (!staging) return true;
        return *reinterpret_cast<std::uint32_t volatile const*>(staging->host.get() + staging->bytes) != 0;
    }

    void wait() override {
        if (std::exchange(waited_, true)) return;
        if (error) std::rethrow_exception(error);
        auto& members = owner_.members_;
        auto const limit = world_->options().limit_seconds;
        if (done_at < 0)
            world_->wait([&] { return done_at >= 0; },
                         [&] { world_->fail(members.missing({call.peer}, {owner_.rank()}, call, limit)); });
        world_->check();
        auto& machine = world_->machine();
        if (staging) {
            machine.finish(done_at);
            if (to) std::memcpy(to, staging->host.get(), static_cast<std::size_t>(out_bytes));
            staging->taken = false;
        } else {
            machine.wait(Machine::kernels, done_at);
        }
        owner_.traffic_.add(call.verb, call.dtype, owner_.traffic_of(call));
    }

    void abandon() noexcept override {
        // Mostly the others have called it too; then the exception itself, caught further out, is what they
        // should hear.
        for (int i = 0; i < 100 && !over(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (!over()) world_->tell(owner_.members_.unwinding(owner_.rank(), &call));
    }

    /// Waits, before the communicator goes, and leaves the error to others.
    void settle() noexcept {
        try {
            wait();
        } catch (...) {}
    }

  private:
    /// Whether the GPU has done it, so that all ranks must have come, or never will.
    bool over() const noexcept {
        if (waited_ || error) return true;
        try {
            return done_at >= 0 && world_->machine().reached(done_at);
        } catch (std::exception const&) {
            return true;
        }
    }

    StreamCommunicator& owner_;
    std::shared_ptr<StreamWorld> const world_;
    bool waited_ = false;
};

}  // namespace plait::cuda
