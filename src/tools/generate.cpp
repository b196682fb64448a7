#include <algorithm>
#include <cmath>

#include "commands.hpp"
#include "model.hpp"
#include "plait/core/random.hpp"
#include "plait/train/saving.hpp"
#include "text_codec.hpp"

namespace plait::tools {
namespace {

Config config_of(std::string const& run) {
    auto path = std::filesystem::path(run) / "config.toml";
    check<UsageError>(std::filesystem::exists(path), "{} holds no run: there is no {}", run, path.string());
    auto config = load_config(path.string(), {});
    check_config(config);
    return config;
}

Checkpoint checkpoint_of(GenerateArguments const& a) {
    try {
        if (!a.checkpoint.empty())
            return open_checkpoint(std::filesystem::path(a.run) / "checkpoints" / a.checkpoint);
        auto found = find_checkpoint(a.run);
        if (found.checkpoint)
            for (auto const& note : found.notes) fmt::print(stderr, "plait generate: {}\n", note);
        check(found.checkpoint.has_value(), "{} has no checkpoint{}{}", a.run,
              found.notes.empty() ? " yet" : " that can be read: ",
              found.notes.empty() ? "" : found.notes.front());
        return *found.checkpoint;
    } catch (Error const& e) {
        throw UsageError(e.what());
    }
}

/// A token drawn from softmax(logits / temperature) by `uniform` in [0, 1); the likeliest one at temperature
/// 0.
std::int32_t pick(std::span<float const> logits, double temperature, double uniform) {
    for (float x : logits) check(std::isfinite(x), "the model gives logits that are not finite");
    auto likeliest = std::max_element(logits.begin(), logits.end());
    if (temperature == 0) return static_cast<std::int32_t>(likeliest - logits.begin());
    std::vector<double> weights;
    double sum = 0;
    for (float x : logits) {
        weights.push_back(std::exp((double{x} - *likeliest) / temperature));
        sum += weights.back();
    }
    double left = uniform * sum;
    for (std::size_t i = 0; i < weights.size(); ++i)
        if ((left -= weights[i]) < 0) return static_cast<std::int32_t>(i);
    return static_cast<std::int32_t>(likeliest - logits.begin());
}

}  // namespace

int generate(GenerateArguments const& a) {
    auto config = config_of(a.run);
    auto const codec = TextCodec::of_run(a.run, config.data.path);
    check<UsageError>(codec.vocabulary() <= config.model.vocab,
                      "{}: its tokenizer.json has {} tokens, more than model.vocab = {}", a.run,
                      codec.vocabulary(), config.model.vocab);
    auto checkpoint = checkpoint_of(a);
    auto model = make_model(config);
    auto state = state_of(model, cpu_backend(static_cast<int>(config.run.threads)));
    auto step = compile_next_token(model, config, state);
    state->allocate();
    checkpoint.copy_weights_to(parameter_arrays(*state));

    auto const seq = config.data.seq;
    std::map<std::string, Array> batch{{"tokens", Array({i32, {1, seq}})}, {"position", Array({i32, {1}})}};
    auto window = batch.at("tokens").values<std::int32_t>();
    auto text = codec.encode(a.prompt);
    if (text.empty()) text.push_back(codec.start());
    std::fwrite(a.prompt.data(), 1, a.prompt.size(), stdout);
    Random random{a.seed, hash_name("generate"), 0};
    for (std::int64_t i = 0; i < a.tokens; ++i) {
        auto length = std::min(std::ssize(text), static_cast<std::ptrdiff_t>(seq));
        std::copy_n(text.end() - length, length, window.begin());
        batch.at("position").values<std::int32_t>()[0] = static_cast<std::int32_t>(length - 1);
        auto logits = step(batch).front().second;
        auto const known = static_cast<std::size_t>(codec.vocabulary());
        text.push_back(pick(logits.values<float>().first(known), a.temperature,
                            random.uniform(static_cast<std::uint64_t>(i))));
        auto const bytes = codec.decode(text.back());
        std::fwrite(bytes.data(), 1, bytes.size(), stdout);
        std::fflush(stdout);
    }
    std::fputc('\n', stdout);
    return 0;
}

}  // namespace plait::tools
