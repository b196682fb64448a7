// Tokens a second of a model that makes text: with a key-value cache, and by reading the whole window for
// every token. Random weights and tokens; both sides in one run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "plait/core/random.hpp"
#include "plait/plait.hpp"

namespace {

using namespace plait;
using Clock = std::chrono::steady_clock;

struct Case {
    char const* name;
    models::Config config;
};
Case const cases[] = {
    {"quickstart",
     {.dim = 192, .layers = 4, .heads = 6, .kv_heads = 3, .hidden = 512, .vocab = 256, .seq = 128}},
    {"llama-tiny", {.dim = 384, .layers = 6, .heads = 6, .hidden = 1024, .vocab = 4096, .seq = 256}},
};

std::vector<std::int32_t> text(std::int64_t n, std::int64_t vocab) {
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < n; ++i)
        ids.push_back(static_cast<std::int32_t>(Random{1}.word(static_cast<std::uint64_t>(i)) %
                                                static_cast<std::uint64_t>(vocab)));
    return ids;
}

/// The shortest time of a few runs, in seconds.
template <class F>
double fastest(int runs, F&& f) {
    double best = 1e30;
    for (int i = 0; i < runs; ++i) {
        auto begin = Clock::now();
        f();
        best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
    }
    return best;
}

/// Seconds for a token when the model reads the whole window for it.
double whole_window(models::Config const& c, DType compute, int threads) {
    models::Llama model(c);
    auto step =
        compile(Plan().compute(compute), state(model, cpu_backend(threads)),
                {{"tokens", {i32, {1, c.seq}}}, {"position", {i32, {1}}}}, [&](Batch const& b) -> Row {
                    nn::Inference inference;
                    auto hidden = reshape(model.hidden(b.tokens), {c.seq, c.dim});
                    auto last = embedding(b["position"], hidden);
                    return {{"logits", cast(linear(last, models::output_weight(model)), f32)}};
                });
    std::map<std::string, Array> batch{
        {"tokens", Array({1, c.seq}, std::span<std::int32_t const>(text(c.seq, c.vocab)))},
        {"position", Array({i32, {1}})}};
    return fastest(12, [&] { step(batch); });
}

}  // namespace

int main(int argc, char** argv) {
    int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    std::printf("%d threads, tokens/s; decode at half the window, prefill of all but one token of it\n\n",
                threads);
    std::printf(
        "| model | compute | whole window | decode | decode / whole | decode, 8 slots | 32 slots | prefill "
        "|\n");
    std::printf("|---|---|---|---|---|---|---|---|\n");
    for (auto const& [name, c] : cases)
        for (auto compute : {f32, bf16}) {
            double whole = whole_window(c, compute, threads), prefill = 0, decode[3];
            auto ids = text(c.seq, c.vocab);
            std::int64_t const slots[] = {1, 8, 32};
            for (int i = 0; i < 3; ++i) {
                models::Llama model(c);
                for (auto const& v : variables_of(model, true)) {
                    // As the command loads them.
                    if (v->meta.shape.rank() < 2) continue;
                    v->meta.dtype = compute;
                    v->source = {record(Source{SourceKind::variable, v->path, v->meta, v, {}, {}}, {}), 0};
                    v->current = v->source;
                }
                Decoder decoder(model, state(model, cpu_backend(threads)),
                                {.slots = slots[i], .length = c.seq, .compute = compute});
                auto prompt = std::span<std::int32_t const>(ids).first(static_cast<std::size_t>(c.seq - 1));
                if (i == 0) prefill = fastest(12, [&] { decoder.prefill(0, prompt); });
                std::vector<std::int32_t> next(static_cast<std::size_t>(slots[i]), 1);
                auto half = prompt.first(static_cast<std::size_t>(c.seq / 2));
                for (std::int64_t s = 0; s < slots[i]; ++s) decoder.prefill(s, half);
                decode[i] = fastest(static_cast<int>(c.seq / 2 - 1), [&] { decoder.decode(next); });
            }
            std::printf("| %s | %s | %.0f | %.0f | %.1f | %.0f | %.0f | %.0f |\n", name,
                        std::string(name_of(compute)).c_str(), 1 / whole, 1 / decode[0], whole / decode[0],
                        8 / decode[1], 32 / decode[2], static_cast<double>(c.seq - 1) / prefill);
        }
}
