#pragma once

#include "plait/cpu/backend.hpp"
#include "plait/cpu/device.hpp"
#include "plait/cpu/thread_pool.hpp"

#include <sys/mman.h>

#include <cstring>

namespace plait::cpu {
namespace detail {

class Device final : public Backend {
  public:
    explicit Device(int threads) : pool_(threads), kernels_(cpu::kernels()) {}

    std::string_view name() const override { return "cpu"; }
    KernelTable kernels() const override { return kernels_; }
    int workers() const override { return pool_.workers(); }

    // Straight from the system: zeroed, and resident only where it has been touched.
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override {
        check(bytes >= 0, "cannot take {} bytes of memory", bytes);
        auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
        void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(p != MAP_FAILED, "cannot take {} bytes of memory: {}", bytes, std::strerror(errno));
        return {static_cast<std::byte*>(p), [size](std::byte* q) { munmap(q, size); }};
    }
    void write(std::byte* to, std::span<std::byte const> from) override {
        if (!from.empty()) std::memcpy(to, from.data(), from.size());
    }
    void read(std::span<std::byte> to, std::byte const* from) override {
        if (!to.empty()) std::memcpy(to.data(), from, to.size());
    }
    void call(KernelRow const& row, KernelCall& call) override {
        call.pool = &pool_;
        row.run(call);
    }

  private:
    ThreadPool pool_;
    KernelTable kernels_;
};

}  // namespace detail

PLAIT_INLINE std::shared_ptr<Backend> make_backend(int threads) {
    return std::make_shared<detail::Device>(threads);
}

}  // namespace plait::cpu
