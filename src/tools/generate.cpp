#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "generation.hpp"
#include "plait/io/file.hpp"
#include "plait/train/saving.hpp"

namespace plait::tools {
namespace {

Config config_of(std::string const& run) {
    auto path = std::filesystem::path(run) / "config.toml";
    check<UsageError>(std::filesystem::exists(path), "{} holds no run: there is no {}", run, path.string());
    auto config = load_config(path.string(), {});
    check_config(config);
    return config;
}

/// --checkpoint 20, step-00000020, runs/a/checkpoints/step-00000020
std::filesystem::path checkpoint_folder(GenerateArguments const& a) {
    auto const& name = a.checkpoint;
    if (name.find('/') != std::string::npos) return name;
    auto saved = std::filesystem::path(a.run) / "checkpoints";
    bool number = name.size() <= 18 &&
                  std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    return saved / (number && !name.empty() ? fmt::format("step-{:08}", std::stoll(name)) : name);
}

Checkpoint checkpoint_of(GenerateArguments const& a) {
    try {
        if (a.checkpoint != "latest") return open_checkpoint(checkpoint_folder(a));
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

/// Fills the parameters of a state.
void load_weights(Config const& config, Checkpoint const& checkpoint, State& state) {
    std::vector<Array> whole;
    std::vector<NamedArray> named;
    for (auto const& v : state.variables()) {
        if (v->kind != VariableKind::parameter) continue;
        whole.emplace_back(Meta{dtype_in_training(config, *v), v->meta.shape});
        named.push_back({v->path, whole.back().meta(), whole.back().bytes(), {}, v->rows});
    }
    checkpoint.copy_weights_to(named);
    std::size_t i = 0;
    for (auto const& v : state.variables())
        if (v->kind == VariableKind::parameter) write_weight(state, *v, std::exchange(whole[i++], {}));
}

std::vector<std::string> prompts_of(GenerateArguments const& a) {
    auto prompts = a.prompts;
    for (auto const& file : a.prompt_files) try {
            prompts.push_back(read_file(file));
        } catch (Error const& e) {
            fail<UsageError>("--prompt-file {}", e.what());
        }
    if (prompts.empty()) prompts.emplace_back();
    return prompts;
}

void print(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
}

void print_json(Sequence const& s) {
    nlohmann::ordered_json row{{"prompt", s.prompt},
                               {"text", s.text.text()},
                               {"tokens", s.made()},
                               {"tokens_per_second", s.tokens_per_second()}};
    // Bytes that are no UTF-8 are replaced, as JSON cannot hold them.
    print(row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

/// Shows texts in the order of their prompts, one that is alone or next as it grows.
class Printer {
  public:
    Printer(std::vector<Sequence>& sequences, bool json) : sequences_(sequences), json_(json) {}

    void show(std::size_t i) {
        if (i != next_) return;
        while (next_ < sequences_.size()) {
            auto& s = sequences_[next_];
            if (s.made() == 0) return;
            if (!json_) {
                if (!headed_) print(heading() + s.prompt);
                headed_ = true;
                print(s.done ? s.text.take_rest() : s.text.take());
            }
            if (!s.done) return;
            if (json_) print_json(s);
            else print("\n");
            ++next_, headed_ = false;
        }
    }

  private:
    std::string heading() const {
        if (sequences_.size() == 1) return "";
        return fmt::format("{}=== {} of {} ===\n", next_ ? "\n" : "", next_ + 1, sequences_.size());
    }

    std::vector<Sequence>& sequences_;
    bool json_, headed_ = false;
    std::size_t next_ = 0;
};

void print_speed(Generation const& g, double all_seconds) {
    std::int64_t made = 0;
    for (auto const& s : g.sequences) made += static_cast<std::int64_t>(s.made());
    auto const& one = g.sequences.front();
    std::string moved;
    if (g.moves > 0) moved = fmt::format(", the window moved {} times", g.moves);
    fmt::print(stderr, "plait generate: {} tokens in {:.2f} s; first after {:.1f} ms, then {:.1f} tok/s{}\n",
               made, all_seconds, 1000 * seconds_between(one.began, one.first),
               g.decode_seconds > 0 ? static_cast<double>(g.decoded) / g.decode_seconds : 0.0, moved);
}

/// As long as the longest prompt needs, as the rest of a chunk is work for nothing; the bits are the same.
std::int64_t chunk_of(std::vector<Sequence> const& sequences, std::int64_t tokens, std::int64_t context) {
    std::size_t longest = 1;
    for (auto const& s : sequences) longest = std::max(longest, s.given);
    auto const whole = static_cast<std::int64_t>(longest);
    if (whole + tokens > context) return 32;  // the window will move, and much be read again
    return std::min<std::int64_t>(static_cast<std::int64_t>(std::bit_ceil(longest)), 32);
}

}  // namespace

int generate(GenerateArguments const& a) {
    auto config = config_of(a.run);
    auto const context = a.context ? a.context : config.data.seq;
    check<UsageError>(config.model.family != "gpt2" || context <= config.data.seq,
                      "--context {}: this gpt2 has learned {} positions (data.seq); give at most that",
                      context, config.data.seq);
    auto const codec = TextCodec::of_run(a.run, config.data.path);
    check<UsageError>(codec.vocabulary() <= config.model.vocab,
                      "{}: its tokenizer.json has {} tokens, more than model.vocab = {}", a.run,
                      codec.vocabulary(), config.model.vocab);
    auto checkpoint = checkpoint_of(a);
    auto const compute = parse_dtype(config.plan.compute);
    auto model = make_model(config);
    keep_matrices_in(model, compute);
    auto threads = static_cast<int>(a.threads ? a.threads : config.run.threads);
    auto state = state_of(model, cpu_backend(threads));
    auto sequences = sequences_of(prompts_of(a), codec, a.stop);
    auto const slots = std::min<std::int64_t>(std::ssize(sequences), a.batch);
    auto decoder =
        make_decoder(model, state, slots, context, chunk_of(sequences, a.tokens, context), compute);
    state->allocate();
    load_weights(config, checkpoint, *state);

    Generation generation({a.sampling, a.tokens, a.seed, a.stop}, std::move(sequences), codec, decoder);
    for (std::size_t i = 0; i < generation.sequences.size() && !a.quiet; ++i)
        if (auto given = generation.sequences[i].given; given > static_cast<std::size_t>(context))
            fmt::print(stderr, "plait generate: of the {} tokens of prompt {} the model sees the last {}\n",
                       given, i + 1, context);
    Printer printer(generation.sequences, a.json);
    auto begin = Sequence::Clock::now();
    generation.run([&](std::size_t i) { printer.show(i); });
    if (!a.quiet) print_speed(generation, seconds_between(begin, Sequence::Clock::now()));
    return 0;
}

}  // namespace plait::tools
