// Time of every op of a training step, alone and at the shapes that the step has: bytes or operations a
// second, and the share of what the device reaches in a copy or a large product.
#include "device.hpp"
#include "op_clock.hpp"
#include "options.hpp"
#include "training.hpp"

#include "plait/train/speed.hpp"

#include <set>

using namespace plait;
using namespace plait::benchmark;

namespace {

struct Asked {
    std::string model = "gpt2-tiny", compute = "bf16", device = "cpu";
    std::int64_t batch = 8, seq = 256, threads = 0, micro_batches = 1;
    bool step = false;
};

constexpr char usage[] =
    "usage: ops [--model NAME] [--batch N] [--seq N] [--compute f32|bf16] [--device cpu|cuda] [--threads N]\n"
    "           [--micro-batches N] [--step]; models: see step; --step also runs the step itself";

Asked parse(int argc, char** argv) {
    Asked o;
    Options{"ops",
            usage,
            {{"--step", &o.step}},
            {{"--model", &o.model}, {"--compute", &o.compute}, {"--device", &o.device}},
            {{"--batch", &o.batch},
             {"--seq", &o.seq},
             {"--threads", &o.threads, 0},
             {"--micro-batches", &o.micro_batches}}}
        .read(argc, argv);
    check<UsageError>(o.compute == "f32" || o.compute == "bf16", "ops: --compute {}: use f32 or bf16",
                      o.compute);
    check<UsageError>(o.device == "cpu" || o.device == "cuda", "ops: --device {}: use cpu or cuda", o.device);
    return o;
}

/// One line of the table.
struct Line {
    std::string name, shapes;
    double calls = 0;  // a step
    double bytes = 0, flops = 0;
    OpClock::Group group;
};

/// The distinct calls of a program; what a device takes in one go is one call.
std::vector<Line> lines_of(Program const& program) {
    std::vector<Line> lines;
    std::map<std::string, std::size_t> known;
    for (auto const& visit : program.visits) {
        auto const& piece = program.pieces[static_cast<std::size_t>(visit.piece)];
        std::map<KernelRow const*, std::size_t> many;
        for (int n = piece.first; n < piece.last; ++n) {
            auto const& i = program.instructions[static_cast<std::size_t>(n)];
            if (!i.row) continue;
            auto const adds = visit.micro > 0 ? i.accumulate : 0;
            FloorProduct const op{i.op, benchmark::detail::metas_of(i.in), adds, 1};
            auto const bytes = benchmark::detail::moved_bytes(i, adds);
            if (bytes == 0) continue;  // stays where it is
            auto const computes = !floor_work(i, visit.micro > 0).products.empty();
            // Products are made in one go only where they are leaves.
            if (i.row->run_many && !computes) {
                auto const [at, fresh] = many.try_emplace(i.row, lines.size());
                if (fresh) lines.push_back({std::string(i.op.name()) + ", all at once", "", 1, 0, 0, {}});
                auto& line = lines[at->second];
                line.bytes += bytes;
                line.group.push_back(op);
                continue;
            }
            auto const [at, fresh] = known.try_emplace(op.text(), lines.size());
            if (fresh) {
                std::string shapes;
                for (auto const& m : op.in)
                    if (shapes.size() < 60) shapes += (shapes.empty() ? "" : " ") + to_string(m);
                lines.push_back({kind_name(i), shapes, 0, bytes, computes ? op.flops() : 0, {op}});
            }
            ++lines[at->second].calls;
        }
    }
    return lines;
}

template <class Model>
void run(Asked const& o, Size const& size) {
    auto c = size.config();
    c.seq = o.seq;
    if (o.device == "cuda") c.loss_chunk = cuda::loss_chunk;
    auto const device = device_of(o.device, static_cast<int>(o.threads), false);
    Plan plan;
    plan.compute(o.compute == "bf16" ? bf16 : f32).micro_batches(o.micro_batches);
    // Its state takes no memory before the first step.
    Training<Model> training(c, o.batch, plan, device.backend);
    auto lines = lines_of(training.step.program());
    std::vector<OpClock::Group> groups;
    for (auto const& l : lines) groups.push_back(l.group);
    CopyClock copy(device.backend);
    auto const copied = copy.rate(), product = matmul_rate(*device.backend, plan.compute());
    OpClock clock(std::move(groups), device.backend);
    fmt::print("{}: {} of batch {} x {}, {}; a copy {:.0f} GB/s, a large product {:.1f} TFLOP/s\n\n",
               device.text(), size.name, o.batch, o.seq, o.compute, 1e-9 * copied, 1e-12 * product);
    std::vector<std::pair<double, std::string>> rows;
    double all = 0;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        auto const& l = lines[i];
        auto const took = clock.seconds_of(i);
        auto const rate = l.flops > 0 ? fmt::format("{:.1f} TFLOP/s", 1e-12 * l.flops / took)
                                      : fmt::format("{:.0f} GB/s", 1e-9 * l.bytes / took);
        auto const share = l.flops > 0 ? l.flops / took / product : l.bytes / took / copied;
        // The calls that are timed follow each other on the same operands.
        bool const cached = l.flops == 0 && l.bytes < 128 << 20;
        rows.emplace_back(l.calls * took,
                          fmt::format("| {} | {} | {:.0f} | {:.1f} | {} | {:.0f} %{} |", l.name, l.shapes,
                                      l.calls, 1e6 * took, rate, 100 * share, cached ? ", in cache" : ""));
        all += l.calls * took;
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](auto const& a, auto const& b) { return a.first > b.first; });
    fmt::print(
        "| op | on | calls | us each | rate | share of the ceiling | of the step |\n"
        "|---|---|---|---|---|---|---|\n");
    for (auto const& [took, text] : rows) fmt::print("{} {:.1f} % |\n", text, 100 * took / all);
    fmt::print("\nin all {:.2f} ms\n", 1e3 * all);
    if (!o.step) return;
    std::vector<double> steps;
    for (int i = 0; i < 10; ++i) {
        training.draw();
        auto const took = seconds([&] { training.once(); });
        if (i >= 3) steps.push_back(took);
    }
    fmt::print("a step {:.2f} ms: the ops alone are {:.1f} % of it\n", 1e3 * median(steps),
               100 * all / median(steps));
}

}  // namespace

int main(int argc, char** argv) {
    return exit_code_of([&] {
        auto const o = parse(argc, argv);
        auto const& size = size_of(o.model, "ops");
        if (size.family == std::string_view("gpt2")) run<models::Gpt2>(o, size);
        else run<models::Llama>(o, size);
    });
}
