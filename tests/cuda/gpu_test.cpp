#include "cuda/launch.hpp"
#include "cuda/product_cache.hpp"
#include "machines.hpp"

#include "kernel_runs.hpp"

#include <unistd.h>
#include <cmath>
#include <filesystem>
#include <fstream>

using namespace tests;
using plait::bf16;
using plait::f32;

namespace {

using Machine = gpu::Machine;
using Words = std::vector<float>;

/// The machine of the host, and the GPU where there is one.
std::vector<std::shared_ptr<Machine>> machines() {
    std::vector<std::shared_ptr<Machine>> all{
        std::make_shared<gpu::HostMachine>(gpu::HostOptions{}),
        std::make_shared<gpu::HostMachine>(gpu::HostOptions{.order = gpu::Order::backward})};
    if (gpu::gpu_count() > 0) all.push_back(gpu::open_gpu());
    return all;
}

/// Device memory and what the host sees of it.
class Shared {
  public:
    Shared(Machine& machine, Words const& values)
        : machine_(machine),
          count_(values.size()),
          device_(machine.allocate(bytes())),
          host_(machine.allocate_host(bytes())) {
        write(values);
    }

    float* get() const { return reinterpret_cast<float*>(device_.get()); }
    void write(Words const& values, Machine::Stream stream = Machine::kernels) {
        std::memcpy(host_.get(), values.data(), values.size() * sizeof(float));
        machine_.copy_in(stream, device_.get(), host_.get(), bytes());
        machine_.finish();
    }
    Words read() const {
        machine_.copy_out(Machine::kernels, host_.get(), device_.get(), bytes());
        machine_.finish();
        auto const* at = reinterpret_cast<float const*>(host_.get());
        return {at, at + count_};
    }
    std::int64_t bytes() const { return static_cast<std::int64_t>(count_ * sizeof(float)); }

  private:
    Machine& machine_;
    std::size_t count_;
    std::shared_ptr<std::byte[]> device_, host_;
};

/// y += x, on a stream.
void add(Machine& machine, Machine::Stream stream, Shared const& x, Shared const& y) {
    auto n = y.bytes() / 4;
    gpu::launch(machine.queue(stream), gpu::BiasRows<float>{.y = y.get(),
                                                            .bias = x.get(),
                                                            .batch = 1,
                                                            .rows = 1,
                                                            .columns = n,
                                                            .stride = n,
                                                            .batch_stride = n,
                                                            .add = true});
}

}  // namespace

TEST_CASE("a GPU that is not there is told, with the fix") {
    auto const count = gpu::gpu_count();
    std::string told;
    try {
        gpu::open_gpu({.device = count});
    } catch (plait::UsageError const& error) {
        told = error.what();
    }
    CAPTURE(told);
    REQUIRE(told.find('\n') == std::string::npos);
    if (!gpu::available()) REQUIRE_THAT(told, ContainsSubstring("built without CUDA"));
    else if (count == 0)
        REQUIRE_THAT(told, ContainsSubstring("driver") || ContainsSubstring("no GPU is visible"));
    else REQUIRE_THAT(told, ContainsSubstring("there is no GPU"));
}

TEST_CASE("a machine does what its streams were asked for, in the order of events") {
    for (auto const& machine : machines()) {
        INFO(machine->description());
        Shared one(*machine, {1, 2, 3}), sum(*machine, {10, 20, 30}), copy(*machine, {0, 0, 0});
        REQUIRE(machine->is_device(one.get()));
        REQUIRE_FALSE(machine->is_device(machine.get()));
        REQUIRE(reinterpret_cast<std::uintptr_t>(one.get()) % 256 == 0);
        auto side = machine->add_stream("side");
        auto step = [&] {
            machine->begin(0, "add");
            add(*machine, Machine::kernels, one, sum);
            machine->wait(side, machine->record(Machine::kernels));
            machine->begin(17, "copy");
            machine->queue(side).copy(reinterpret_cast<std::byte*>(copy.get()),
                                      reinterpret_cast<std::byte*>(sum.get()), sum.bytes());
            machine->wait(Machine::kernels, machine->record(side));
            machine->begin(40, "add");
            add(*machine, Machine::kernels, one, sum);
        };
        step();
        REQUIRE(sum.read() == Words{12, 24, 36});
        REQUIRE(copy.read() == Words{11, 22, 33});

        // A recording does nothing by itself, and all of it each time.
        REQUIRE_FALSE(machine->recording());
        machine->begin_recording();
        REQUIRE(machine->recording());
        step();
        auto recorded = machine->end_recording();
        REQUIRE_FALSE(machine->recording());
        machine->finish();
        REQUIRE(sum.read() == Words{12, 24, 36});
        one.write({1, 1, 1});
        for (int i = 0; i < 3; ++i) recorded->replay();
        REQUIRE(sum.read() == Words{18, 30, 42});
        REQUIRE(copy.read() == Words{17, 29, 41});
        // An event that was reached long ago.
        auto event = machine->record(side);
        machine->finish();
        machine->wait(Machine::kernels, event);
        machine->finish(event);
        REQUIRE(machine->reached(event));
    }
}

TEST_CASE("a recording that failed leaves a machine that works") {
    for (auto const& machine : machines()) {
        INFO(machine->description());
        Shared x(*machine, {1}), y(*machine, {1});
        auto side = machine->add_stream("side");
        auto before = machine->record(Machine::kernels);
        machine->begin_recording();
        REQUIRE_THROWS_AS(machine->allocate(1), plait::Error);
        REQUIRE_THROWS_AS(machine->finish(), plait::Error);
        REQUIRE_THROWS_AS(machine->wait(side, before), plait::Error);
        REQUIRE_THROWS_AS(add(*machine, side, x, y), plait::Error);
        auto nothing = machine->end_recording();
        nothing->replay();
        add(*machine, Machine::kernels, x, y);
        REQUIRE(y.read() == Words{2});
    }
}

TEST_CASE("a wrong token is told once, by instruction and element, also from a replay") {
    for (auto const& machine : machines()) {
        INFO(machine->description());
        Shared table(*machine, {1, 2, 3, 4}), rows(*machine, {0, 0, 0}), tokens(*machine, {0, 0, 0});
        auto set_tokens = [&](std::vector<std::int32_t> t) {
            Words bits(t.size());
            std::memcpy(bits.data(), t.data(), t.size() * 4);
            tokens.write(bits);
        };
        auto step = [&] {
            machine->begin(5, "embedding");
            auto& queue = machine->queue(Machine::kernels);
            gpu::launch(queue, gpu::Embedding<float>{reinterpret_cast<std::int32_t*>(tokens.get()),
                                                     table.get(), rows.get(), queue.fault(), 3, 0, 4, 4, 1});
        };
        auto fault_of = [&] {
            try {
                machine->finish();
            } catch (plait::DeviceFault const& fault) {
                REQUIRE(fault.first == fault.last);
                REQUIRE_THAT(fault.what(), ContainsSubstring("element 2"));
                return fault.first;
            }
            return -1;
        };
        set_tokens({0, 3, 4});
        step();
        REQUIRE(fault_of() == 5);
        REQUIRE(fault_of() == -1);
        machine->begin_recording();
        step();
        auto recorded = machine->end_recording();
        recorded->replay();
        REQUIRE(fault_of() == 5);
        set_tokens({0, 3, 1});
        recorded->replay();
        REQUIRE(fault_of() == -1);
        REQUIRE(rows.read() == Words{1, 4, 2});
    }
}

TEST_CASE("what loses a GPU is told with its instruction, from then on by every call") {
    if (gpu::gpu_count() == 0) SKIP("no GPU");
    auto machine = gpu::open_gpu();
    Shared y(*machine, {1, 2, 3});
    machine->begin(33, "gelu");
    gpu::launch(
        machine->queue(Machine::kernels),
        gpu::Map<gpu::Gelu, float>{.x = {reinterpret_cast<float const*>(4096)}, .y = {y.get()}, .n = 3});
    for (int i = 0; i < 2; ++i) {
        plait::DeviceFault told("");
        try {
            machine->finish();
        } catch (plait::DeviceFault const& fault) {
            told = fault;
        }
        REQUIRE_THAT(told.what(), ContainsSubstring("cudaError"));
        REQUIRE(told.first == 33);
        REQUIRE(told.last == 33);
    }
    REQUIRE_THROWS_AS(y.read(), plait::DeviceFault);
}

TEST_CASE("products of every form, with what may stand after them") {
    struct Form {
        std::int64_t m, n, k, batch;
        bool a_transposed, b_transposed, accumulate, bias, gelu, sums = false;
    };
    Form const forms[] = {
        {8, 16, 32, 1, false, true, false, false, false},
        {8, 16, 32, 1, false, true, false, true, false},
        {8, 16, 32, 1, false, true, false, true, true},
        {5, 7, 3, 1, false, true, false, true, true},
        {5, 7, 3, 1, false, false, true, false, false},
        {5, 7, 3, 1, true, false, true, true, false},
        {16, 8, 24, 3, false, false, false, false, false},
        {5, 3, 7, 3, true, true, true, false, false},
        {1, 1, 1, 1, false, false, false, false, false},
        {16, 8, 24, 1, true, false, false, false, false, true},
        {16, 8, 24, 1, true, false, true, false, false, true},
        {5, 8, 3, 1, true, false, false, false, false, true},
    };
    for (auto const& machine : machines())
        for (auto const& f : forms) {
            CAPTURE(machine->description(), f.m, f.n, f.k, f.batch, f.a_transposed, f.b_transposed, f.bias,
                    f.gelu);
            auto numbers = [](std::int64_t n, int seed) {
                Words x(static_cast<std::size_t>(n));
                for (std::size_t i = 0; i < x.size(); ++i)
                    x[i] = static_cast<float>((static_cast<int>(i) * 37 + seed * 11) % 17 - 8) / 8;
                return x;
            };
            auto x = numbers(f.batch * f.m * f.k, 1), w = numbers(f.batch * f.k * f.n, 2),
                 b = numbers(f.n, 3), y = numbers(f.batch * f.m * f.n, 4);
            Shared a(*machine, x), other(*machine, w), bias(*machine, b), c(*machine, y), before(*machine, y),
                sums(*machine, numbers(f.m, 5)),
                scratch(*machine, Words((gpu::product_workspace_bytes + 256) / 4));
            auto bytes = [](Shared const& s) { return reinterpret_cast<std::byte*>(s.get()); };
            gpu::Multiplication p;
            p.m = f.m, p.n = f.n, p.k = f.k, p.batch = f.batch;
            p.a = {bytes(a), f32, f.a_transposed ? f.m : f.k, f.m * f.k, f.a_transposed};
            p.b = {bytes(other), f32, f.b_transposed ? f.k : f.n, f.k * f.n, f.b_transposed};
            p.c = {bytes(c), f32, f.n, f.m * f.n};
            p.accumulate = f.accumulate;
            if (f.bias) p.bias = bytes(bias);
            if (f.gelu) p.before_gelu = bytes(before);
            p.workspace = bytes(scratch), p.workspace_bytes = gpu::product_workspace_bytes;
            if (f.sums) p.row_sums = bytes(sums);
            if (!machine->queue(Machine::kernels).multiply(p)) {
                REQUIRE(f.sums);
                REQUIRE(c.read() == y);  // nothing was done
                REQUIRE(sums.read() == numbers(f.m, 5));
                p.row_sums = nullptr;
                REQUIRE(machine->queue(Machine::kernels).multiply(p));
            }
            auto got = c.read(), inner = before.read(), added = sums.read();
            for (std::int64_t i = 0; p.row_sums && i < f.m; ++i) {
                double want = 0;
                for (std::int64_t l = 0; l < f.k; ++l) want += x[static_cast<std::size_t>(l * f.m + i)];
                REQUIRE(added[static_cast<std::size_t>(i)] == Approx(want).margin(1e-4));
            }
            for (std::int64_t at = 0; at < f.batch * f.m * f.n; ++at) {
                auto one = at / (f.m * f.n), i = at / f.n % f.m, j = at % f.n;
                double want = f.accumulate ? y[static_cast<std::size_t>(at)] : 0;
                for (std::int64_t l = 0; l < f.k; ++l)
                    want += x[static_cast<std::size_t>(one * f.m * f.k +
                                                       (f.a_transposed ? l * f.m + i : i * f.k + l))] *
                            w[static_cast<std::size_t>(one * f.k * f.n +
                                                       (f.b_transposed ? j * f.k + l : l * f.n + j))];
                if (f.bias) want += b[static_cast<std::size_t>(j)];
                if (f.gelu) {
                    REQUIRE(inner[static_cast<std::size_t>(at)] == Approx(want).margin(1e-4));
                    want = gpu::gelu(static_cast<float>(want));
                }
                REQUIRE(got[static_cast<std::size_t>(at)] == Approx(want).margin(f.gelu ? 1e-3 : 1e-4));
            }
        }
}

TEST_CASE("cuDNN takes the attention that models train with") {
#ifdef PLAIT_HAS_CUDNN
    if (gpu::gpu_count() == 0) SKIP("no GPU");
    auto const machine = gpu::open_gpu();
    for (std::int64_t dim : {64, 128})
        for (std::int64_t kv_heads : {4, 2}) {
            CAPTURE(dim, kv_heads);
            constexpr std::int64_t batch = 2, length = 256, heads = 4, scratch = std::int64_t{1} << 28;
            auto memory = machine->allocate(scratch + (std::int64_t{64} << 20));
            auto* next = memory.get() + scratch;
            auto take = [&](std::int64_t n) { return std::exchange(next, next + n); };
            auto const q = 2 * batch * length * heads * dim, k = 2 * batch * length * kv_heads * dim;
            gpu::AttentionCall call{.batch = batch,
                                    .heads = heads,
                                    .kv_heads = kv_heads,
                                    .length = length,
                                    .keys = length,
                                    .dim = dim,
                                    .q = take(q),
                                    .k = take(k),
                                    .v = take(k),
                                    .out = take(q),
                                    .lse = take(4 * batch * length * heads),
                                    .workspace = memory.get(),
                                    .workspace_bytes = scratch};
            auto& queue = machine->queue(Machine::kernels);
            REQUIRE(queue.attend(call));
            call.dout = take(q), call.dq = take(q), call.dk = take(k), call.dv = take(k);
            REQUIRE(queue.attend(call));
            machine->finish();
        }
#else
    SKIP("this build is without cuDNN");
#endif
}

TEMPLATE_TEST_CASE("bias and GELU beside a product", "", float, gpu::Bf16) {
    constexpr std::int64_t batch = 2, rows = 3, columns = 5, stride = 7, apart = 30;
    auto type = dtype_of<TestType>;
    Numbers x(type, {60}, 1), bias(type, {columns}, 2);
    for (bool adds : {false, true}) {
        auto got = in_both_orders([&](gpu::Order order) {
            Memory<TestType> from(x, 1), y(x, 1), b(bias), z(x);
            gpu::BiasRows<TestType> first{y.get(), b.get(), batch, rows, columns, stride, apart, adds};
            gpu::launch(first, first.blocks(), order);
            gpu::GeluRows<TestType> second{from.get(), z.get(), batch, rows, columns, stride, apart};
            gpu::launch(second, second.blocks(), order);
            return std::vector{y.numbers(type, {60}), z.numbers(type, {60})};
        });
        for (std::int64_t i = 0; i < 60; ++i) {
            auto row = i % apart / stride, column = i % apart % stride;
            bool inside = row < rows && column < columns;
            CAPTURE(i, adds);
            REQUIRE(got[0](i) == Approx(inside ? bias(column) + (adds ? x(i) : 0) : x(i)).epsilon(0.01));
            REQUIRE(got[1](i) ==
                    Approx(inside ? gpu::gelu(static_cast<float>(x(i))) : x(i)).epsilon(0.01).margin(1e-3));
        }
    }
}

TEST_CASE("how far a stream is stands in a word") {
    std::uint32_t word = 7;
    gpu::Mark mark{&word, 3};
    gpu::launch(mark, mark.blocks());
    REQUIRE(word == 3);
}

TEST_CASE("a workspace begins where libraries want it, and has one size") {
    alignas(256) std::byte memory[1024];
    for (int offset : {0, 64, 255}) {
        gpu::AlignedWorkspace w(memory + offset, 700);
        CAPTURE(offset);
        REQUIRE(reinterpret_cast<std::uintptr_t>(w.data) % 256 == 0);
        REQUIRE(w.data >= memory + offset);
        REQUIRE(w.data + w.bytes <= memory + offset + 700);
        REQUIRE(w.bytes == 444);
    }
    REQUIRE(gpu::AlignedWorkspace(memory, 100).bytes == 0);
}

TEST_CASE("what was fastest is kept in a file, whatever the file holds") {
    auto folder = std::filesystem::temp_directory_path() / fmt::format("plait_products_{}", ::getpid());
    auto file = folder / "deep" / "products";
    gpu::ProductCache::Algorithm one{1, 2, 3, 4, 5, 6, 7, ~std::uint64_t{0}}, two{8};
    {
        gpu::ProductCache first(file), second(file);
        first.put("8 8 8", one);
        second.put("9 9 9", two);
        REQUIRE(first.find("8 8 8") == one);
        REQUIRE_FALSE(first.find("9 9 9"));
    }
    REQUIRE(gpu::ProductCache(file).find("8 8 8") == one);
    REQUIRE(gpu::ProductCache(file).find("9 9 9") == two);
    // A line that was cut, one of words, an empty one; and a file of something else.
    std::ofstream(file, std::ios::app) << "7 7 7: 0000000000000001\n6 6 6: what\n\n";
    REQUIRE_FALSE(gpu::ProductCache(file).find("7 7 7"));
    REQUIRE_FALSE(gpu::ProductCache(file).find("6 6 6"));
    REQUIRE(gpu::ProductCache(file).find("8 8 8") == one);
    std::string line = "8 8 8:", word = " 0000000000000001";
    for (int i = 0; i < 8; ++i) line += word;
    std::ofstream(file) << "something else\n" << line << "\n";
    REQUIRE_FALSE(gpu::ProductCache(file).find("8 8 8"));
    gpu::ProductCache(file).put("8 8 8", two);
    REQUIRE(gpu::ProductCache(file).find("8 8 8") == two);
    REQUIRE(std::distance(std::filesystem::directory_iterator(file.parent_path()), {}) == 1);
    // Nowhere to write is no error.
    gpu::ProductCache nowhere(file / "below a file");
    nowhere.put("8 8 8", one);
    REQUIRE(nowhere.find("8 8 8") == one);
    std::filesystem::remove_all(folder);
}
