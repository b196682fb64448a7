// Counts large allocations of the whole process, libraries included: malloc and its kin and mmap are replaced
// here, and the dynamic linker gives everyone else these too. operator new calls malloc.
#include "catch.hpp"
#include "laws/ranks.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

using namespace plait;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__) || !defined(__LP64__)
#define PLAIT_TEST_HOOKS 0
#else
#define PLAIT_TEST_HOOKS 1
#endif

namespace {

constexpr std::size_t large = 64 * 1024;
std::atomic<bool> counting{false};
std::atomic<int> large_calls{0};
std::atomic<std::size_t> largest{0};

[[maybe_unused]] void note(std::size_t bytes) {
    if (bytes < large || !counting.load(std::memory_order_relaxed)) return;
    ++large_calls;
    for (auto seen = largest.load(); seen < bytes && !largest.compare_exchange_weak(seen, bytes);) {}
}

}  // namespace

#if PLAIT_TEST_HOOKS
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) noexcept { return note(bytes), __libc_malloc(bytes); }
void* calloc(std::size_t n, std::size_t bytes) noexcept { return note(n * bytes), __libc_calloc(n, bytes); }
void* realloc(void* p, std::size_t bytes) noexcept { return note(bytes), __libc_realloc(p, bytes); }
void* memalign(std::size_t to, std::size_t bytes) noexcept { return note(bytes), __libc_memalign(to, bytes); }
void* aligned_alloc(std::size_t to, std::size_t bytes) noexcept {
    return note(bytes), __libc_memalign(to, bytes);
}
int posix_memalign(void** p, std::size_t to, std::size_t bytes) noexcept {
    note(bytes);
    *p = __libc_memalign(to, bytes);
    return *p ? 0 : ENOMEM;
}
void* mmap(void* at, std::size_t bytes, int protection, int flags, int file, off_t offset) noexcept {
    note(bytes);
    return reinterpret_cast<void*>(::syscall(SYS_mmap, at, bytes, protection, flags, file, offset));
}
void* mmap64(void* at, std::size_t bytes, int protection, int flags, int file, off64_t offset) noexcept {
    return mmap(at, bytes, protection, flags, file, offset);
}
}
#endif

namespace {

/// Large allocations while `f` runs.
template <class F>
int large_allocations(F const& f) {
    large_calls = 0, largest = 0, counting = true;
    f();
    counting = false;
    return large_calls;
}

}  // namespace

TEST_CASE("after the second step nothing of 64 KiB or more is allocated") {
    if (!PLAIT_TEST_HOOKS) SKIP("the allocator cannot be watched here: a sanitizer's own, or not glibc's");
    models::Config c;
    c.dim = 64, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.hidden = 192, c.vocab = 512, c.seq = 64;
    c.loss_chunk = 256;
    for (std::string family : {"llama", "gpt2"})
        for (auto dtype : {f32, bf16})
            for (auto threads : {1, 2})
                for (auto micro : {1, 2}) {
                    INFO(family << ", " << name_of(dtype) << ", " << threads << " threads, " << micro
                                << " micro-batches");
                    Plan plan;
                    plan.compute(dtype).micro_batches(micro).recompute("blocks.1");
                    auto t = tests::training(family, c, plan, cpu_backend(threads), 8, 64);
                    CHECK(large_allocations(t) > 0);  // the arena
                    t();
                    for (int step = 3; step <= 6; ++step) {
                        auto n = large_allocations(t);
                        INFO("step " << step << ", the largest of " << largest << " bytes");
                        CHECK(n == 0);
                    }
                }
}

TEST_CASE("on ranks too nothing of 64 KiB or more is allocated after the second step") {
    if (!PLAIT_TEST_HOOKS) SKIP("the allocator cannot be watched here: a sanitizer's own, or not glibc's");
    auto s = tests::llama();
    s.config.dim = 128, s.config.hidden = 384, s.config.vocab = 512;  // weights of 64 KiB and more
    constexpr std::size_t blas_buffer = 128 << 20;
    int blas_buffers = 0;
    for (auto bits : {Bits::fast, Bits::layout})
        for (int zero : {0, 1, 2, 3})
            for (auto dtype : {f32, bf16}) {
                s.compute = dtype;
                tests::Arrangement a{.data = 2, .micro = 2, .zero = zero, .bits = bits};
                INFO(tests::text_of(s, a) << (bits == Bits::fast ? ", fast" : ""));
                int calls = -1;
                run_ranks(a.ranks(), [&](Communicator& world) {
                    Mesh mesh(world, {{"data", a.data}});
                    auto t = tests::training_on(mesh, s, a);
                    t(), t();
                    world.barrier().wait();
                    if (world.rank() == 0) large_calls = 0, largest = 0, counting = true;
                    world.barrier().wait();
                    t(), t();
                    world.barrier().wait();
                    if (world.rank() == 0) counting = false, calls = large_calls;
                });
                INFO("the largest of " << largest << " bytes");
                // OpenBLAS keeps a buffer for each thread, taken when two are first in it at one time.
                if (calls == 1 && largest == blas_buffer) calls = 0, ++blas_buffers;
                CHECK(calls == 0);
            }
    CHECK(blas_buffers <= 1);
}

TEST_CASE("a large allocation is seen, however it is made") {
    if (!PLAIT_TEST_HOOKS) SKIP("the allocator cannot be watched here: a sanitizer's own, or not glibc's");
    void* volatile p = nullptr;
    auto freed = [&](auto const& allocate) {
        return large_allocations([&] {
            p = allocate();
            std::free(p);
        });
    };
    CHECK(freed([] { return std::malloc(large); }) == 1);
    CHECK(freed([] { return std::malloc(large - 1); }) == 0);
    CHECK(freed([] { return std::calloc(large / 8, 8); }) == 1);
    CHECK(freed([] { return std::realloc(std::malloc(16), large); }) == 1);
    CHECK(freed([] { return std::aligned_alloc(64, large); }) == 1);
    CHECK(freed([] {
              void* q = nullptr;
              return posix_memalign(&q, 64, large) ? nullptr : q;
          }) == 1);
    CHECK(large_allocations([&] { p = ::operator new(large), ::operator delete(p); }) == 1);
    CHECK(large_allocations([&] {
              p = ::operator new(large, std::align_val_t(64)), ::operator delete(p, std::align_val_t(64));
          }) == 1);
    CHECK(large_allocations([&] { std::vector<char> v(large), w(v); }) == 2);
    CHECK(large_allocations([&] {
              p = ::mmap(nullptr, large, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              ::munmap(p, large);
          }) == 1);
}
