#include "samples.hpp"

#include <algorithm>

#include "svg.hpp"

namespace plait::tools {
namespace {

DType compute_of(Config const& config) { return parse_dtype(config.plan.compute); }

Model model_of(Config const& config) {
    auto model = make_model(config);
    keep_matrices_in(model, compute_of(config));
    return model;
}

std::vector<std::string> prompts_of(Config const& config) {
    auto prompts = config.run.sample_prompts;
    if (prompts.empty()) prompts.emplace_back();
    return prompts;
}

}  // namespace

Sampler::Sampler(Config const& config, std::shared_ptr<Backend> backend)
    : config_(config),
      model_(model_of(config)),
      state_(state_of(model_, std::move(backend))),
      prompts_(prompts_of(config)),
      decoder_(make_decoder(model_, state_, std::min<std::int64_t>(std::ssize(prompts_), 8), config.data.seq,
                            32, compute_of(config))) {}

std::int64_t Sampler::bytes() const {
    std::int64_t largest = 0;
    for (auto const& v : state_->variables())
        if (v->kind == VariableKind::parameter)
            largest = std::max(largest, bytes_of(f32, v->meta.elements()));
    auto const scratch =
        std::max(decoder_.prefill_step().memory().scratch(), decoder_.decode_step().memory().scratch());
    return state_->bytes() + scratch + 2 * largest;
}

void Sampler::set(std::string const& path, Array const& values) {
    auto const& all = state_->variables();
    auto it = std::find_if(all.begin(), all.end(), [&](auto const& v) { return v->path == path; });
    check(it != all.end(), "samples: the model has no parameter '{}'", path);
    write_weight(*state_, **it, values);
}

std::vector<MetricsRow> Sampler::draw(std::int64_t step, std::function<void()> const& alive) {
    auto const& run = config_.run;
    GenerationOptions options;
    options.sampling.temperature = run.sample_temperature;
    options.tokens = run.sample_tokens;
    options.seed = static_cast<std::uint64_t>(run.seed);
    Generation generation(options, sequences_of(prompts_, codec_, ""), codec_, decoder_);
    generation.run([&](std::size_t) { alive(); });
    std::vector<MetricsRow> rows;
    for (auto const& s : generation.sequences) {
        auto text = s.text.text();
        text.resize(text.size() - unfinished_bytes(text));  // the last token may end within a character
        rows.push_back({{"step", step}, {"prompt", valid_utf8(s.prompt)}, {"text", valid_utf8(text)}});
    }
    return rows;
}

std::unique_ptr<Sampler> plan_sampler(Config const& config, Programs& programs) {
    if (config.run.sample_every == 0 || programs.plan.mesh().rank() != 0) return nullptr;
    auto sampler = std::make_unique<Sampler>(config, programs.state->shared_backend());
    programs.sample_bytes = sampler->bytes();
    return sampler;
}

TextCodec codec_of(Config const& config, Corpus const& corpus) {
    check<UsageError>(
        !corpus.on_tokens() || corpus.tokenizer,
        "run.sample_every = {} ({}): {} came without a tokenizer, which samples need: set data.tokenizer",
        config.run.sample_every, config.origins.at("run.sample_every"), value_text(config.data.path));
    return TextCodec::of(corpus.tokenizer ? &*corpus.tokenizer : nullptr);
}

}  // namespace plait::tools
