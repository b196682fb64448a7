#pragma once

#include <ucontext.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <utility>

// Sanitizers follow a change of stacks only when they are told of it.
#if defined(__SANITIZE_ADDRESS__)
#define PLAIT_FIBER_ADDRESS 1
#elif defined(__SANITIZE_THREAD__)
#define PLAIT_FIBER_THREAD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PLAIT_FIBER_ADDRESS 1
#elif __has_feature(thread_sanitizer)
#define PLAIT_FIBER_THREAD 1
#endif
#endif
#ifdef PLAIT_FIBER_ADDRESS
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef PLAIT_FIBER_THREAD
#include <sanitizer/tsan_interface.h>
#endif

namespace plait::cuda {

/// A function with a stack of its own, which pauses in its midst and is resumed where it was. It is dropped,
/// without unwinding, when it goes or starts anew before its end.
class Fiber {
  public:
    Fiber() = default;
    Fiber(Fiber const&) = delete;
    Fiber& operator=(Fiber const&) = delete;
    ~Fiber() { forget(); }

    /// Makes ready to run f; nothing runs yet. After an f that ended this costs nothing to speak of.
    void start(std::function<void()> f) {
        body_ = std::move(f);
        error_ = nullptr;
        if (state_ == State::ended) return;
        forget();
        if (!stack_) stack_ = std::make_unique_for_overwrite<std::byte[]>(stack_bytes);
        getcontext(&first_);
        first_.uc_stack.ss_sp = stack_.get();
        first_.uc_stack.ss_size = stack_bytes;
        first_.uc_link = nullptr;
        auto self = reinterpret_cast<std::uintptr_t>(this);
        makecontext(&first_, reinterpret_cast<void (*)()>(enter), 2, static_cast<unsigned>(self),
                    static_cast<unsigned>(static_cast<std::uint64_t>(self) >> 32));
        state_ = State::fresh;
#ifdef PLAIT_FIBER_THREAD
        thread_fiber_ = __tsan_create_fiber(0);
#endif
    }

    /// Runs on until f pauses or ends; throws what f threw.
    void resume() {
#ifdef PLAIT_FIBER_ADDRESS
        void* fake = nullptr;
        __sanitizer_start_switch_fiber(&fake, stack_.get(), stack_bytes);
#endif
#ifdef PLAIT_FIBER_THREAD
        caller_fiber_ = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(thread_fiber_, 0);
#endif
        enter_stack();
#ifdef PLAIT_FIBER_ADDRESS
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    }

    /// Called by f: goes back to who resumed it.
    void pause() { leave(State::paused); }

  private:
    static constexpr std::size_t stack_bytes = 64 << 10;
    enum class State : std::uint8_t { empty, fresh, paused, ended };

    // _setjmp and _longjmp ask nothing of the system, as swapcontext does. A checking libc takes a jump to
    // another stack for an error: _FORTIFY_SOURCE must be off where this is compiled.
    void enter_stack() {
        if (_setjmp(caller_)) return;
        if (state_ == State::fresh) setcontext(&first_);
        _longjmp(own_, 1);
    }
    void leave_stack() {
        if (_setjmp(own_) == 0) _longjmp(caller_, 1);
    }

    static void enter(unsigned low, unsigned high) {
        auto self = static_cast<std::uint64_t>(high) << 32 | low;
        reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(self))->main();
    }
    [[noreturn]] void main() {
#ifdef PLAIT_FIBER_ADDRESS
        __sanitizer_finish_switch_fiber(nullptr, &caller_stack_, &caller_bytes_);
#endif
        for (;;) {
            try {
                body_();
            } catch (...) {
                error_ = std::current_exception();
            }
            leave(State::ended);
        }
    }
    void leave(State state) {
        state_ = state;
#ifdef PLAIT_FIBER_ADDRESS
        void* fake = nullptr;
        __sanitizer_start_switch_fiber(&fake, caller_stack_, caller_bytes_);
#endif
#ifdef PLAIT_FIBER_THREAD
        __tsan_switch_to_fiber(caller_fiber_, 0);
#endif
        leave_stack();
#ifdef PLAIT_FIBER_ADDRESS
        __sanitizer_finish_switch_fiber(fake, &caller_stack_, &caller_bytes_);
#endif
    }
    void forget() {
#ifdef PLAIT_FIBER_THREAD
        if (thread_fiber_) __tsan_destroy_fiber(std::exchange(thread_fiber_, nullptr));
#endif
    }

    ucontext_t first_{};
    std::jmp_buf own_{}, caller_{};
    State state_ = State::empty;
    std::unique_ptr<std::byte[]> stack_;
    std::function<void()> body_;
    std::exception_ptr error_;
#ifdef PLAIT_FIBER_ADDRESS
    void const* caller_stack_ = nullptr;
    std::size_t caller_bytes_ = 0;
#endif
#ifdef PLAIT_FIBER_THREAD
    void *thread_fiber_ = nullptr, *caller_fiber_ = nullptr;
#endif
};

}  // namespace plait::cuda
