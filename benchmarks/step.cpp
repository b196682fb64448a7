// Time of a training step: forward, backward, clipping, AdamW, on random tokens. Prints one JSON line with
// the keys of peers/torch_train.py; with --floor what the step cannot go below, with --profile where the time
// goes.
#include "device.hpp"
#include "floor_report.hpp"
#include "options.hpp"
#include "profile.hpp"
#include "training.hpp"

#include "plait/train/speed.hpp"

#include <chrono>
#include <optional>

using namespace plait;
using namespace plait::benchmark;

namespace {

auto const started = std::chrono::steady_clock::now();
/// Seconds since the program was loaded.
double since_start() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

struct Asked {
    std::string model = "llama-tiny", compute = "f32", master = "f32", recompute, device = "cpu",
                bits = "fast";
    std::int64_t batch = 8, seq = 256, steps = 20, warmup = 3, micro_batches = 1, loss_chunk = 0, threads = 0,
                 rounds = 7;
    bool floor = false, profile = false, dry = false;
};

constexpr char usage[] =
    "usage: step [--model NAME] [--batch N] [--seq N] [--steps N] [--warmup N] [--compute f32|bf16] "
    "[--master f32|bf16]\n"
    "            [--threads N] [--micro-batches N] [--loss-chunk N] [--recompute GLOB] [--device cpu|cuda] "
    "[--bits "
    "fast|layout]\n"
    "            [--floor] [--rounds N] [--profile] [--dry]\n"
    "models: llama-tiny, gpt2-tiny, gpt2-124m, gpt2-355m, gpt2-774m, gpt2-1558m, qwen-0.5b, llama-1b, "
    "llama-7b;\n"
    "--master bf16 keeps matrices and their moments in bf16, and wants --compute bf16;\n"
    "--threads 0 takes all cores; --dry only compiles, and wants no GPU;\n"
    "--floor adds N rounds of a step, its products alone and a copy";

Asked parse(int argc, char** argv) {
    Asked o;
    Options{"step",
            usage,
            {{"--floor", &o.floor}, {"--profile", &o.profile}, {"--dry", &o.dry}},
            {{"--model", &o.model},
             {"--compute", &o.compute},
             {"--recompute", &o.recompute},
             {"--master", &o.master},
             {"--device", &o.device},
             {"--bits", &o.bits}},
            {{"--batch", &o.batch},
             {"--seq", &o.seq},
             {"--steps", &o.steps},
             {"--warmup", &o.warmup, 0},
             {"--threads", &o.threads, 0},
             {"--micro-batches", &o.micro_batches},
             {"--loss-chunk", &o.loss_chunk},
             {"--rounds", &o.rounds}}}
        .read(argc, argv);
    check<UsageError>(o.compute == "f32" || o.compute == "bf16", "step: --compute {}: use f32 or bf16",
                      o.compute);
    check<UsageError>(o.device == "cpu" || o.device == "cuda", "step: --device {}: use cpu or cuda",
                      o.device);
    check<UsageError>(o.bits == "fast" || o.bits == "layout", "step: --bits {}: use fast or layout", o.bits);
    check<UsageError>(o.master == "f32" || (o.master == "bf16" && o.compute == "bf16"),
                      "step: --master {}: use f32, or bf16 with --compute bf16", o.master);
    return o;
}

template <class Model>
void run(Asked const& o, Size const& s) {
    auto c = s.config();
    c.seq = o.seq, c.loss_chunk = o.loss_chunk ? o.loss_chunk : o.device == "cuda" ? cuda::loss_chunk : 1024;
    Plan plan;
    plan.micro_batches(o.micro_batches).compute(o.compute == "bf16" ? bf16 : f32);
    if (!o.recompute.empty()) plan.recompute(o.recompute);
    if (o.bits == "layout") plan.bits(Bits::layout);
    auto const device = device_of(o.device, static_cast<int>(o.threads), o.bits == "layout", o.dry);
    auto const backend = std::make_shared<ProfilingBackend>(device.backend);

    std::optional<Training<Model>> training;
    auto const compile_seconds = seconds([&] {
        training.emplace(c, o.batch, plan, o.profile ? std::shared_ptr<Backend>(backend) : backend->inner(),
                         o.master == "bf16" ? bf16 : f32);
    });
    auto& step = training->step;
    std::int64_t parameters = 0;
    for (auto const& v : variables_of(training->model)) parameters += v->meta.elements();

    // Tokens are drawn before the clock starts.
    double loss = 0;
    auto once = [&] { loss = training->once(); };
    std::vector<double> ms;
    double first_step_seconds = 0;
    if (!o.dry) {
        for (std::int64_t i = 0; i < o.warmup; ++i) {
            training->draw(), once();
            if (i == 0) first_step_seconds = since_start();
        }
        backend->clear();
        for (std::int64_t i = 0; i < o.steps; ++i) {
            training->draw();
            ms.push_back(1e3 * seconds(once));
        }
    }
    double const middle = ms.empty() ? 0 : median(ms),
                 least = ms.empty() ? 0 : *std::min_element(ms.begin(), ms.end());
    auto const peak = device.peak_bytes();
    std::optional<FloorReport> report;
    std::string more_keys;
    if (device.gpu && !o.dry) {
        auto const rate = 1e3 * program_flops(step.program()) / middle;
        more_keys = fmt::format(", \"tflops\": {:.1f}, \"mfu\": {:.3f}", 1e-12 * rate,
                                rate / matmul_rate(*device.backend, plan.compute()));
    }
    if (o.floor && !o.dry) {
        report.emplace(step.program(), backend->inner());
        for (std::int64_t i = 0; i < o.rounds; ++i) {
            training->draw();
            report->round([&](TraceLog* log) {
                step.trace(log);
                once();
                step.trace(nullptr);
            });
        }
        more_keys += fmt::format(", \"floor_ms\": {:.2f}, \"floor_share\": {:.3f}",
                                 1e3 * report->floor_seconds(), report->share());
    }
    fmt::print(
        "{{\"peer\": \"plait\", \"model\": \"{}\", \"params\": {}, \"batch\": {}, \"seq\": {}, "
        "\"precision\": \"{}\", \"master\": \"{}\", \"device\": \"{}\", \"bits\": \"{}\", \"threads\": {}, "
        "\"tok_s\": {:.0f}, "
        "\"ms\": {:.2f}, \"min_ms\": {:.2f}, "
        "\"peak_gib\": {:.3f}, \"arena_gib\": {:.3f}, \"compile_s\": {:.2f}, \"first_step_s\": {:.2f}, "
        "\"loss\": "
        "{:.3f}{}}}\n",
        s.name, parameters, o.batch, o.seq, o.compute, o.master, device.text(), o.bits, backend->workers(),
        middle > 0 ? 1e3 * static_cast<double>(o.batch * o.seq) / middle : 0, middle, least,
        static_cast<double>(peak) / (1 << 30), static_cast<double>(step.memory().total()) / (1 << 30),
        compile_seconds, first_step_seconds, loss, more_keys);
    if (report) report->print();
    if (o.profile) backend->print(stdout, static_cast<int>(o.steps));
}

}  // namespace

int main(int argc, char** argv) {
    return exit_code_of([&] {
        auto const o = parse(argc, argv);
        auto const& size = size_of(o.model, "step");
        if (size.family == std::string_view("gpt2")) run<models::Gpt2>(o, size);
        else run<models::Llama>(o, size);
    });
}
