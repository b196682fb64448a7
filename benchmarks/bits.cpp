// What Bits::layout costs: ops cut into 8 leaves, whole steps, and the arena of a rank. Prints tables.
#include "plait/comm/threads.hpp"
#include "plait/core/random.hpp"
#include "plait/graph/collective.hpp"
#include "plait/plait.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <thread>
#include <unordered_map>

using namespace plait;

namespace {

struct Options {
    std::int64_t repeats = 15, steps = 5;
    bool ops = false, whole = false, memory = false, latency = false;
};

constexpr char usage[] =
    "usage: bits [--ops] [--steps] [--memory] [--latency] [--repeats N] [--timed-steps N]\n"
    "       without one of the first four: all of them; N of each are timed, the sides in turn\n";

double median(std::vector<double> x) {
    std::nth_element(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2), x.end());
    return x[x.size() / 2];
}

template <class F>
double milliseconds(F&& f) {
    auto t = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - t).count();
}

struct Ratio {
    double first, second, ratio;  // medians; of the ratios of neighbours
};
/// Times the two in turn, once each before that.
template <class F, class G>
Ratio compare(std::int64_t repeats, F&& f, G&& g) {
    f(), g();
    std::vector<double> a, b, ratios;
    for (std::int64_t i = 0; i < repeats; ++i) {
        a.push_back(milliseconds(f)), b.push_back(milliseconds(g));
        ratios.push_back(b.back() / a.back());
    }
    return {median(a), median(b), median(ratios)};
}

void fill(Array const& a, std::int64_t below) {
    Random random{7, static_cast<std::uint64_t>(a.meta().elements()), 0};
    for (std::int64_t i = 0; i < a.meta().elements(); ++i) {
        auto n = static_cast<std::size_t>(i);
        float x = 2 * random.uniform(n) - 1;
        if (a.meta().dtype == f32) a.values<float>()[n] = x;
        else if (a.meta().dtype == bf16) a.values<Bf16>()[n] = Bf16(x);
        else a.values<std::int32_t>()[n] = static_cast<std::int32_t>(random.uniform(n) * float(below));
    }
}

/// An op whole, and cut along dim 0 of its inputs as the engine does: blocks of rows at their addresses, sums
/// over the batch apart and then added in a tree.
class OpPrice {
  public:
    OpPrice(Backend& on, AnyOp op, Metas const& metas, std::int64_t vocab)
        : backend_(on), op_(std::move(op)), row_(row(op_.name())), add_(row(Binary::name)) {
        for (auto const& m : metas) in_.emplace_back(m), fill(in_.back(), vocab);
        auto rule = op_.rule(metas);
        int batch = rule.inputs[0][0][0];
        for (auto const& m : op_.infer(metas)) {
            bool sum = !Rule::holds(rule.outputs[out_.size()], batch);
            out_.emplace_back(m);
            sums_.emplace_back();
            for (std::int64_t i = 0; sum && i < leaves; ++i) sums_.back().emplace_back(m);
        }
        for (auto const& operand : rule.inputs) cut_.push_back(Rule::holds(operand, batch));
        workspace_ = Array(Meta{u8, {bytes(metas)}});
        auto leaf = metas;
        for (std::size_t i = 0; i < leaf.size(); ++i)
            if (cut_[i]) leaf[i].shape[0] /= leaves;
        leaf_workspace_ = Array(Meta{u8, {bytes(leaf)}});
    }

    void whole() {
        std::vector<Buffer> in, out;
        for (auto const& a : in_) in.push_back(buffer(a));
        for (auto const& a : out_) out.push_back(buffer(a));
        call(row_, op_, in, out, workspace_);
    }
    void in_leaves() {
        for (std::int64_t i = 0; i < leaves; ++i) {
            std::vector<Buffer> in, out;
            for (std::size_t k = 0; k < in_.size(); ++k)
                in.push_back(cut_[k] ? block(in_[k], i) : buffer(in_[k]));
            for (std::size_t k = 0; k < out_.size(); ++k)
                out.push_back(sums_[k].empty() ? block(out_[k], i)
                                               : buffer(sums_[k][static_cast<std::size_t>(i)]));
            call(row_, op_, in, out, leaf_workspace_);
        }
        static AnyOp const add = Binary{BinaryFn::add};
        for (auto const& s : sums_)
            for (std::size_t step = 1; step < s.size(); step *= 2)
                for (std::size_t i = 0; i + step < s.size(); i += 2 * step) {
                    Buffer in[] = {buffer(s[i]), buffer(s[i + step])}, out[] = {in[0]};
                    call(add_, add, in, out, workspace_);
                }
    }

    static constexpr std::int64_t leaves = 8;

  private:
    KernelRow const& row(std::string_view name) const { return *find_kernel(backend_.kernels(), name); }
    std::int64_t bytes(Metas const& in) const {
        return row_.workspace ? row_.workspace(op_, in, op_.infer(in), backend_.workers()) : 0;
    }
    static Buffer buffer(Array const& a) { return {a.bytes().data(), a.meta(), {}}; }
    static Buffer block(Array const& a, std::int64_t i) {
        Buffer b = buffer(a);
        b.meta.shape[0] /= leaves;
        b.data += i * b.meta.bytes();
        return b;
    }
    void call(KernelRow const& row, AnyOp const& op, std::span<Buffer const> in, std::span<Buffer const> out,
              Array const& workspace) {
        KernelCall c{&op, in, out, workspace.bytes().data()};
        backend_.call(row, c);
    }

    Backend& backend_;
    AnyOp op_;
    KernelRow const &row_, &add_;
    std::vector<Array> in_, out_;
    std::vector<std::vector<Array>> sums_;
    std::vector<bool> cut_;
    Array workspace_, leaf_workspace_;
};

void print_ops(Options const& o) {
    auto backend = cpu_backend();
    fmt::print("batch 8 x 256 whole against 8 leaves, {} threads, median of {}\n\n", backend->workers(),
               o.repeats);
    fmt::print(
        "| op | shapes | compute | whole ms | leaves ms | leaves / whole |\n|---|---|---|---|---|---|\n");
    constexpr std::int64_t b = 8, s = 256, d = 384, vocab = 4096;
    for (auto t : {f32, bf16}) {
        auto tell = [&](std::string const& name, AnyOp const& op, Metas const& in) {
            OpPrice price(*backend, op, in, vocab);
            auto r = compare(
                o.repeats, [&] { price.whole(); }, [&] { price.in_leaves(); });
            fmt::print("| {} | {} x {} | {} | {:.2f} | {:.2f} | {:.2f} |\n", name, to_string(in[0].shape),
                       to_string(in[1].shape), name_of(t), r.first, r.second, r.ratio);
            std::fflush(stdout);
        };
        auto rows = [&](std::int64_t n) { return Meta{t, {b, s, n}}; };
        auto weight = [&](std::int64_t n, std::int64_t k) { return Meta{t, {n, k}}; };
        for (auto n : {d, std::int64_t{1024}, std::int64_t{1536}}) {
            tell("product nt", Product{ProductForm::nt}, {rows(d), weight(n, d)});
            tell("product nn", Product{ProductForm::nn}, {rows(n), weight(n, d)});
            tell("product tn", Product{ProductForm::tn}, {rows(n), rows(d)});
        }
        tell("linear bias_gelu", Linear{Epilogue::bias_gelu}, {rows(d), weight(1536, d), {t, {1536}}});
        Meta each{f32, {b, s}}, targets{i32, {b, s}};
        tell("linear_cross_entropy_step", LinearCrossEntropyStep{1024},
             {rows(d), weight(vocab, d), targets, each});
        tell("rms_norm_gradient", RmsNormGradient{}, {rows(d), rows(d), {f32, {d}}, each});
    }
}

/// A model with its optimizer, and the step of a plan over them.
struct Run {
    models::Llama model;
    optim::AdamW adam;
    std::shared_ptr<State> variables;
    Step step;
    std::map<std::string, Array> batch;

    Run(models::Config const& c, std::int64_t rows, Plan const& plan, std::shared_ptr<Backend> backend)
        : model(c),
          variables(state(model, adam, std::move(backend))),
          step(compile(plan, variables, token_columns(rows, c.seq), [&](Batch const& b) -> Row {
              auto [loss, gradients] =
                  value_and_gradients(model, [&] { return models::loss(model, b.tokens, b.targets); });
              auto norm = clip_norm(gradients, 1.0);
              adam.update(model, gradients);
              return {{"loss", loss}, {"grad_norm", norm}};
          })) {
        for (auto const* name : {"tokens", "targets"}) {
            Array a(Meta{i32, {rows, c.seq}});
            fill(a, c.vocab);
            batch[name] = a;
        }
    }
    void once() { step(batch); }
};

struct Model {
    char const* name;
    std::int64_t layers, dim, heads, kv_heads, hidden, vocab, rows, seq;

    models::Config config() const {
        models::Config c;
        c.layers = layers, c.dim = dim, c.heads = heads, c.kv_heads = kv_heads, c.hidden = hidden;
        c.vocab = vocab, c.seq = seq, c.tied = true;
        return c;
    }
};
constexpr Model tiny{"tiny.toml", 16, 64, 8, 4, 128, 256, 16, 64};
constexpr Model llama{"llama-tiny", 6, 384, 6, 6, 1024, 4096, 8, 256};

double mib(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

void print_steps(Options const& o) {
    auto cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    fmt::print("a step at bits = fast and at bits = layout in turn, median of {}, {} threads in all\n\n",
               o.steps, cores);
    fmt::print(
        "| model | compute | ranks | micro-batches | fast ms | layout ms | layout / fast | fast MiB | layout "
        "MiB | layout / fast |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (auto const& m : {tiny, llama})
        for (auto t : {f32, bf16})
            for (auto [ranks, pieces] : {std::pair{1, 1}, {1, 8}, {2, 2}, {2, 8}}) {
                Ratio r{};
                std::int64_t arena[2] = {};
                run_ranks(ranks, [&, ranks = ranks, pieces = pieces](Communicator& world) {
                    auto backend = cpu_backend(std::max(1, cores / ranks));
                    auto plan = [&](Bits bits) {
                        return Plan(Mesh(world, {{"data", ranks}}))
                            .micro_batches(pieces)
                            .compute(t)
                            .bits(bits);
                    };
                    Run fast(m.config(), m.rows, plan(Bits::fast), backend);
                    Run layout(m.config(), m.rows, plan(Bits::layout), backend);
                    auto mine = compare(
                        o.steps, [&] { fast.once(); }, [&] { layout.once(); });
                    if (world.rank() != 0) return;
                    r = mine;
                    arena[0] = fast.step.memory().total(), arena[1] = layout.step.memory().total();
                });
                fmt::print("| {} | {} | {} | {} | {:.1f} | {:.1f} | {:.2f} | {:.1f} | {:.1f} | {:.2f} |\n",
                           m.name, name_of(t), ranks, pieces, r.first, r.second, r.ratio, mib(arena[0]),
                           mib(arena[1]), static_cast<double>(arena[1]) / static_cast<double>(arena[0]));
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
    fmt::print(
        "{}, one sequence of {} a rank, f32, bits = fast: MiB of rank 0's arena, planned; the last column is "
        "what two "
        "thread ranks took from the system in a step\n\n",
        llama.name, llama.seq);
    fmt::print(
        "| zero | data | weights | optimizer | gradients | activations | inputs | workspace | gaps | total | "
        "taken "
        "|\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    auto backend = cpu_backend(1);
    for (int zero = 0; zero <= 3; ++zero)
        for (int data : {1, 2, 4, 8}) {
            auto plan = [&](Mesh mesh) { return Plan(std::move(mesh)).zero(zero).micro_batches(data); };
            auto t = Run(llama.config(), data, plan(Mesh({{"data", data}}, 0)), backend).step.memory();
            std::string taken;
            if (data == 2)
                run_ranks(data, [&](Communicator& world) {
                    auto counting = std::make_shared<CountingBackend>(cpu_backend(1));
                    Run real(llama.config(), data, plan(Mesh(world, {{"data", data}})), counting);
                    real.once();
                    if (world.rank() == 0) taken = fmt::format("{:.1f}", mib(counting->taken()));
                });
            fmt::print(
                "| {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {} |\n",
                zero, data, mib(t.weights + t.other_state), mib(t.optimizer), mib(t.gradients),
                mib(t.activations), mib(t.inputs), mib(t.workspace), mib(t.gaps), mib(t.total()), taken);
        }
}

/// What no order of a step's nodes can beat, in milliseconds: the longest way through its graph, where nodes
/// take `step_ms` by their operations and collectives `latency_ms` each; and the collectives on that way.
std::pair<double, int> longest_way(Graph const& graph, double step_ms, double latency_ms) {
    double flops = 0;
    auto cost = [](Node const& n) { return source_of(n) ? 0 : n.op.cost(detail::metas_of(n.inputs)).flops; };
    for (auto const& n : graph.nodes) flops += cost(*n);
    std::unordered_map<Node const*, std::pair<double, int>> way;
    std::pair<double, int> longest;
    for (auto const& n : graph.nodes) {
        std::pair<double, int> here;
        for (auto const& v : n->inputs) here = std::max(here, way[v.node.get()]);
        bool together = is_collective(n->op);
        here.first += together ? latency_ms : step_ms * cost(*n) / flops;
        here.second += together;
        longest = std::max(longest, way[n.get()] = here);
    }
    return longest;
}

/// How much of the time that collectives are made to take does not show in the step.
void print_latency(Options const& o) {
    constexpr double latency = 0.02;
    fmt::print("{}, two ranks, one micro-batch, bits = fast: {:.0f} ms added to every collective\n\n",
               tiny.name, 1e3 * latency);
    fmt::print(
        "| layout | collectives | in a row | step ms | with latency ms | hidden | bound |\n"
        "|---|---|---|---|---|---|---|\n");
    struct Layout {
        std::string name, axis;
        int zero;
        bool tensor, sequence;
    };
    std::vector<Layout> layouts;
    for (int zero = 0; zero <= 3; ++zero)
        layouts.push_back({fmt::format("data = 2, zero {}", zero), "data", zero, false, false});
    layouts.push_back({"tensor = 2", "tensor", 0, true, false});
    layouts.push_back({"tensor = 2, sequence", "tensor", 0, true, true});
    for (auto const& l : layouts) {
        double step_ms[2] = {};
        int collectives = 0;
        std::pair<double, int> way;
        for (bool late : {false, true})
            run_ranks(2,
                      [&](Communicator& world) {
                          auto plan = Plan(Mesh(world, {{l.axis, 2}})).zero(l.zero);
                          if (l.tensor) plan.megatron("tensor");
                          if (l.sequence) plan.sequence("tensor");
                          Run run(tiny.config(), tiny.rows, plan, cpu_backend(1));
                          run.once();
                          std::vector<double> times;
                          for (std::int64_t i = 0; i < o.steps; ++i)
                              times.push_back(milliseconds([&] { run.once(); }));
                          if (world.rank() > 0) return;
                          step_ms[late] = median(times), collectives = run.step.program().collectives;
                          if (!late)
                              way = longest_way(run.step.dumps().sections.graph, step_ms[0], 1e3 * latency);
                      },
                      {.latency_seconds = late ? latency : 0});
        auto added = 1e3 * latency * collectives;
        auto at_least = std::max(0.0, way.first - step_ms[0]);
        fmt::print("| {} | {} | {} | {:.1f} | {:.1f} | {:.0f} % | {:.0f} % |\n", l.name, collectives,
                   way.second, step_ms[0], step_ms[1], 100 * (1 - (step_ms[1] - step_ms[0]) / added),
                   100 * (1 - at_least / added));
    }
}

Options parse(int argc, char** argv) {
    Options o;
    for (int i = 1; i < argc; ++i) {
        std::string_view flag = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
        if (flag == "--ops") o.ops = true;
        else if (flag == "--steps") o.whole = true;
        else if (flag == "--memory") o.memory = true;
        else if (flag == "--latency") o.latency = true;
        else {
            auto* to = flag == "--repeats" ? &o.repeats : flag == "--timed-steps" ? &o.steps : nullptr;
            auto end = value.data() + value.size();
            bool number = to && std::from_chars(value.data(), end, *to).ptr == end && *to > 0;
            check<UsageError>(number, "bits: what is '{} {}'?\n{}", flag, value, usage);
            ++i;
        }
    }
    if (!o.ops && !o.whole && !o.memory && !o.latency) o.ops = o.whole = o.memory = o.latency = true;
    return o;
}

}  // namespace

int main(int argc, char** argv) try {
    auto o = parse(argc, argv);
    if (o.ops) print_ops(o), fmt::print("\n");
    if (o.whole) print_steps(o), fmt::print("\n");
    if (o.memory) print_memory(), fmt::print("\n");
    if (o.latency) print_latency(o);
} catch (UsageError const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
} catch (Error const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
