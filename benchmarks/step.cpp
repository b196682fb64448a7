// Time of a training step: forward, backward, clipping, AdamW, on random tokens. Prints one JSON line with
// the keys of peers/torch_train.py, and with --profile where the time goes.
#include "plait/core/random.hpp"
#include "plait/plait.hpp"
#include "profile.hpp"

#include <sys/resource.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>

using namespace plait;

namespace {

struct Size {
    char const *name, *family;
    std::int64_t layers, dim, heads, kv_heads, hidden, vocab;
    bool tied;
};
constexpr Size sizes[] = {
    {"llama-tiny", "llama", 6, 384, 6, 6, 1024, 4096, true},
    {"gpt2-tiny", "gpt2", 6, 384, 6, 6, 1536, 4096, true},
    {"gpt2-124m", "gpt2", 12, 768, 12, 12, 3072, 50304, true},
    {"llama-1b", "llama", 22, 2048, 32, 4, 5632, 32000, false},
    {"llama-7b", "llama", 32, 4096, 32, 8, 14336, 128256, false},
};

struct Options {
    std::string model = "llama-tiny", compute = "f32", recompute;
    std::int64_t batch = 8, seq = 256, steps = 20, warmup = 3, micro_batches = 1, loss_chunk = 1024,
                 threads = 0;
    bool profile = false, dry = false;
};

constexpr char usage[] =
    "usage: step [--model NAME] [--batch N] [--seq N] [--steps N] [--warmup N] [--compute f32|bf16] "
    "[--threads N]\n"
    "            [--micro-batches N] [--loss-chunk N] [--recompute GLOB] [--profile] [--dry]\n"
    "models: llama-tiny, gpt2-tiny, gpt2-124m, llama-1b, llama-7b; --threads 0 takes all cores; --dry only "
    "compiles\n";

Options parse(int argc, char** argv) {
    Options o;
    std::pair<std::string_view, std::string*> const texts[] = {
        {"--model", &o.model}, {"--compute", &o.compute}, {"--recompute", &o.recompute}};
    std::pair<std::string_view, std::int64_t*> const numbers[] = {
        {"--batch", &o.batch},          {"--seq", &o.seq},         {"--steps", &o.steps},
        {"--warmup", &o.warmup},        {"--threads", &o.threads}, {"--micro-batches", &o.micro_batches},
        {"--loss-chunk", &o.loss_chunk}};
    for (int i = 1; i < argc; ++i) {
        std::string_view flag = argv[i];
        if (flag == "--profile" || flag == "--dry") {
            (flag == "--dry" ? o.dry : o.profile) = true;
            continue;
        }
        bool known = false;
        std::string_view value = i + 1 < argc ? argv[i + 1] : "";
        for (auto const& [name, to] : texts)
            if (flag == name) known = true, *to = value;
        for (auto const& [name, to] : numbers)
            if (flag == name) {
                auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *to);
                known = error == std::errc() && end == value.data() + value.size() && *to >= 0;
            }
        check<UsageError>(known && !value.empty(), "step: what is '{} {}'?\n{}", flag, value, usage);
        ++i;
    }
    check<UsageError>(o.compute == "f32" || o.compute == "bf16", "step: --compute {}: use f32 or bf16",
                      o.compute);
    check<UsageError>(o.steps > 0, "step: --steps 0: use 1 or more");
    return o;
}

Size const& size_of(std::string const& model) {
    for (auto const& s : sizes)
        if (s.name == model) return s;
    fail<UsageError>("step: no model {}\n{}", model, usage);
}

double seconds_since(std::chrono::steady_clock::time_point t) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

template <class Model>
void run(Options const& o, Size const& s) {
    models::Config c;
    c.dim = s.dim, c.layers = s.layers, c.heads = s.heads, c.kv_heads = s.kv_heads, c.hidden = s.hidden;
    c.vocab = s.vocab, c.tied = s.tied, c.seq = o.seq, c.loss_chunk = o.loss_chunk;

    auto start = std::chrono::steady_clock::now();
    Model model(c);
    optim::AdamW adam;
    auto backend = std::make_shared<ProfilingBackend>(cpu_backend(static_cast<int>(o.threads)));
    auto all = state(model, adam, o.profile ? backend : backend->inner());
    Plan plan;
    plan.micro_batches(o.micro_batches).compute(o.compute == "bf16" ? bf16 : f32);
    if (!o.recompute.empty()) plan.recompute(o.recompute);
    auto step = compile(plan, all, token_columns(o.batch, o.seq), [&](Batch const& b) -> Row {
        auto [loss, gradients] =
            value_and_gradients(model, [&] { return models::loss(model, b.tokens, b.targets); });
        auto norm = clip_norm(gradients, 1.0);
        adam.update(model, gradients);
        return {{"loss", loss}, {"grad_norm", norm}};
    });
    double compile_seconds = seconds_since(start), loss = 0;
    std::int64_t parameters = 0;
    for (auto const& v : variables_of(model)) parameters += v->meta.elements();

    Meta meta{i32, {o.batch, o.seq}};
    Array tokens(meta), targets(meta);
    auto once = [&] {
        Random random{7, hash_name("tokens"), static_cast<std::uint32_t>(step.steps_done())};
        auto n = static_cast<std::uint64_t>(o.batch * o.seq);
        auto draw = [&](std::uint64_t i) {
            return static_cast<std::int32_t>(random.uniform(i) * static_cast<double>(c.vocab));
        };
        for (std::uint64_t i = 0; i < n; ++i) {
            tokens.values<std::int32_t>()[i] = draw(i);
            targets.values<std::int32_t>()[i] = draw(i + 1);
        }
        loss = step({{"tokens", tokens}, {"targets", targets}})[0].second.item();
    };
    std::vector<double> ms;
    if (!o.dry) {
        for (std::int64_t i = 0; i < o.warmup; ++i) once();
        backend->clear();
        for (std::int64_t i = 0; i < o.steps; ++i) {
            auto t = std::chrono::steady_clock::now();
            once();
            ms.push_back(1e3 * seconds_since(t));
        }
        std::sort(ms.begin(), ms.end());
    }
    double median = ms.empty() ? 0 : ms[ms.size() / 2], least = ms.empty() ? 0 : ms[0];
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    fmt::print(
        "{{\"peer\": \"plait\", \"model\": \"{}\", \"params\": {}, \"batch\": {}, \"seq\": {}, "
        "\"precision\": \"{}\", \"threads\": {}, \"tok_s\": {:.0f}, \"ms\": {:.2f}, \"min_ms\": {:.2f}, "
        "\"peak_gib\": {:.3f}, \"arena_gib\": {:.3f}, \"compile_s\": {:.2f}, \"loss\": {:.3f}}}\n",
        s.name, parameters, o.batch, o.seq, o.compute, backend->workers(),
        median > 0 ? 1e3 * static_cast<double>(o.batch * o.seq) / median : 0, median, least,
        static_cast<double>(used.ru_maxrss) / (1 << 20),
        static_cast<double>(step.memory().total()) / (1 << 30), compile_seconds, loss);
    if (o.profile) backend->print(stdout, static_cast<int>(o.steps));
}

}  // namespace

int main(int argc, char** argv) try {
    auto options = parse(argc, argv);
    auto const& size = size_of(options.model);
    if (size.family == std::string_view("gpt2")) run<models::Gpt2>(options, size);
    else run<models::Llama>(options, size);
} catch (UsageError const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
} catch (Error const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
