// What Bits::layout costs: ops cut into the leaves of a granularity, whole steps, and the arena of a rank.
// Prints tables.
#include "op_price.hpp"
#include "options.hpp"
#include "plait/comm/threads.hpp"
#include "training.hpp"

#include <thread>

using namespace plait;
using namespace plait::benchmark;

namespace {

struct Asked {
    std::int64_t repeats = 15, steps = 5, threads = 0;
    bool ops = false, whole = false, memory = false;
};

constexpr char usage[] =
    "usage: bits [--ops] [--steps] [--memory] [--repeats N] [--timed-steps N] [--threads N]\n"
    "       without one of the first three: all of them; N of each are timed, the sides in turn";

using Llama = Training<models::Llama>;

void print_steps(Asked const& o) {
    auto cores = cpu_backend(static_cast<int>(o.threads))->workers();
    fmt::print("a step at bits = fast and at bits = layout in turn, median of {}, {} threads in all\n\n",
               o.steps, cores);
    fmt::print(
        "| model | compute | ranks | micro-batches | fast ms | layout / fast | fast MiB | layout MiB | "
        "layout "
        "/ fast |\n|---|---|---|---|---|---|---|---|---|\n");
    for (auto const& m : {tiny, llama_tiny})
        for (auto t : {f32, bf16})
            for (auto [ranks, pieces] : {std::pair{1, 1}, {1, 8}, {2, 2}, {2, 8}}) {
                Compared r;
                std::int64_t arena[2] = {};
                run_ranks(ranks, [&, ranks = ranks, pieces = pieces](Communicator& world) {
                    auto backend = cpu_backend(std::max(1, cores / ranks));
                    auto plan = [&](Bits bits) {
                        return Plan(Mesh(world, {{"data", ranks}}))
                            .micro_batches(pieces)
                            .compute(t)
                            .bits(bits);
                    };
                    Llama fast(m.config(), m.rows, plan(Bits::fast), backend);
                    Llama layout(m.config(), m.rows, plan(Bits::layout), backend);
                    auto step = [](Llama& side) {
                        return std::function([&side] { return 1e3 * seconds([&] { side.once(); }); });
                    };
                    auto const mine = compare(o.steps, std::vector{step(fast), step(layout)});
                    if (world.rank() != 0) return;
                    r = mine;
                    arena[0] = fast.step.memory().total(), arena[1] = layout.step.memory().total();
                });
                fmt::print("| {} | {} | {} | {} | {:.1f} | {:.2f} | {:.1f} | {:.1f} | {:.2f} |\n", m.name,
                           name_of(t), ranks, pieces, r.first, r.ratios[0], mib(arena[0]), mib(arena[1]),
                           static_cast<double>(arena[1]) / static_cast<double>(arena[0]));
                std::fflush(stdout);
            }
}

/// Another backend that counts the bytes which it was asked for.
class CountingBackend final : public Backend {
  public:
    explicit CountingBackend(std::shared_ptr<Backend> inner) : inner_(std::move(inner)) {}

    std::string_view name() const override { return inner_->name(); }
    KernelTable kernels() const override { return inner_->kernels(); }
    int workers() const override { return inner_->workers(); }
    std::shared_ptr<std::byte[]> allocate(std::int64_t bytes) override {
        taken_ += bytes;
        return inner_->allocate(bytes);
    }
    void write(std::byte* to, std::span<std::byte const> from) override { inner_->write(to, from); }
    void read(std::span<std::byte> to, std::byte const* from) override { inner_->read(to, from); }
    void call(KernelRow const& row, KernelCall& call) override { inner_->call(row, call); }

    std::int64_t taken() const { return taken_; }

  private:
    std::shared_ptr<Backend> inner_;
    std::int64_t taken_ = 0;
};

void print_memory() {
    auto const& m = llama_tiny;
    fmt::print(
        "{}, one sequence of {} a rank, f32, bits = fast: MiB of rank 0's arena, planned; the last column is "
        "what two "
        "thread ranks took from the system in a step\n\n",
        m.name, m.seq);
    fmt::print(
        "| zero | data | weights | optimizer | gradients | activations | inputs | workspace | gaps | total | "
        "taken "
        "|\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    auto backend = cpu_backend(1);
    for (int zero = 0; zero <= 3; ++zero)
        for (int data : {1, 2, 4, 8}) {
            auto plan = [&](Mesh mesh) { return Plan(std::move(mesh)).zero(zero).micro_batches(data); };
            auto t = Llama(m.config(), data, plan(Mesh({{"data", data}}, 0)), backend).step.memory();
            std::string taken;
            if (data == 2)
                run_ranks(data, [&](Communicator& world) {
                    auto counting = std::make_shared<CountingBackend>(cpu_backend(1));
                    Llama real(m.config(), data, plan(Mesh(world, {{"data", data}})), counting);
                    real.once();
                    if (world.rank() == 0) taken = fmt::format("{:.1f}", mib(counting->taken()));
                });
            fmt::print(
                "| {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {} |\n",
                zero, data, mib(t.weights + t.other_state), mib(t.optimizer), mib(t.gradients),
                mib(t.activations), mib(t.inputs), mib(t.workspace), mib(t.gaps), mib(t.total()), taken);
        }
}

}  // namespace

int main(int argc, char** argv) {
    return exit_code_of([&] {
        Asked o;
        Options{"bits",
                usage,
                {{"--ops", &o.ops}, {"--steps", &o.whole}, {"--memory", &o.memory}},
                {},
                {{"--repeats", &o.repeats}, {"--timed-steps", &o.steps}, {"--threads", &o.threads, 0}}}
            .read(argc, argv);
        if (!o.ops && !o.whole && !o.memory) o.ops = o.whole = o.memory = true;
        if (o.ops) print_ops(o.repeats, static_cast<int>(o.threads)), fmt::print("\n");
        if (o.whole) print_steps(o), fmt::print("\n");
        if (o.memory) print_memory();
    });
}
