#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.hpp"
#include "model.hpp"
#include "plait/io/file.hpp"
#include "plait/train/decoder.hpp"
#include "plait/train/saving.hpp"
#include "text_codec.hpp"
#include "text_stream.hpp"

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

/// Fills the parameters of a state, which may keep them in another dtype than the checkpoint.
void load_weights(Checkpoint const& checkpoint, State& state) {
    std::vector<Array> whole;
    std::vector<NamedArray> named;
    for (auto const& v : state.variables()) {
        if (v->kind != VariableKind::parameter) continue;
        whole.emplace_back(Meta{f32, v->meta.shape});
        named.push_back({v->path, whole.back().meta(), whole.back().bytes()});
    }
    checkpoint.copy_weights_to(named);
    std::size_t i = 0;
    for (auto const& v : state.variables()) {
        if (v->kind != VariableKind::parameter) continue;
        auto array = std::exchange(whole[i++], {});
        if (v->meta.dtype == bf16) {
            Array narrow(v->meta);
            std::ranges::transform(array.values<float>(), narrow.values<Bf16>().begin(),
                                   [](float x) { return Bf16(x); });
            array = narrow;
        }
        state.write(*v, array);
    }
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

using Clock = std::chrono::steady_clock;
double seconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

/// A prompt and what has been made of it.
struct Sequence {
    std::string prompt;
    std::vector<std::int32_t> tokens;  // those of the prompt first
    std::size_t given = 0;             // of the prompt
    TextStream text;
    bool done = false;
    Clock::time_point began{}, first{}, last{};

    std::size_t made() const { return tokens.size() - given; }
    double tokens_per_second() const {
        auto time = seconds(began, last);
        return time > 0 ? static_cast<double>(made()) / time : 0;
    }
};

/// All prompts through the slots of a decoder: a prompt takes the first slot that is free.
class Generation {
  public:
    Generation(GenerateArguments const& a, TextCodec const& codec, Decoder& decoder)
        : a_(a), codec_(codec), decoder_(decoder), slots_(static_cast<std::size_t>(decoder.sizes().slots)) {
        for (auto const& prompt : prompts_of(a)) {
            auto tokens = codec_.encode(prompt);
            if (tokens.empty()) tokens.push_back(codec_.start());
            sequences.push_back({prompt, tokens, tokens.size(), TextStream(a.stop)});
        }
    }

    /// Calls show(i) whenever sequence i has grown.
    template <class Show>
    void run(Show const& show) {
        std::size_t next = 0, rest = sequences.size();
        while (rest > 0) {
            std::vector<std::int32_t> step(slots_.size(), -1);
            std::vector<Fresh> fresh;
            for (std::size_t s = 0; s < slots_.size(); ++s) {
                if (!slots_[s] && next < sequences.size()) {
                    slots_[s] = next++;
                    sequences[*slots_[s]].began = Clock::now();
                    fresh.push_back({s, prefill(s, decoder_.sizes().length)});
                } else if (slots_[s] &&
                           decoder_.length(static_cast<std::int64_t>(s)) == decoder_.sizes().length) {
                    fresh.push_back({s, prefill(s, decoder_.sizes().length / 2)});
                    ++moves;
                } else if (slots_[s]) {
                    step[s] = sequences[*slots_[s]].tokens.back();
                }
            }
            for (Fresh const& f : fresh) take(f.slot, f.logits.values<float>(), rest, show);
            auto decoding = std::count_if(step.begin(), step.end(), [](auto t) { return t >= 0; });
            if (!decoding) continue;
            auto begin = Clock::now();
            auto all = decoder_.decode(step);
            decode_seconds += seconds(begin, Clock::now());
            decoded += decoding;
            auto vocab = static_cast<std::size_t>(all.shape()[1]);
            for (std::size_t s = 0; s < step.size(); ++s)
                if (step[s] >= 0) take(s, all.values<float>().subspan(s * vocab, vocab), rest, show);
        }
    }

    std::vector<Sequence> sequences;
    std::int64_t moves = 0;    // of the window
    std::int64_t decoded = 0;  // tokens of all sequences, in
    double decode_seconds = 0;

  private:
    /// What a slot that has read a text says.
    struct Fresh {
        std::size_t slot;
        Array logits;
    };

    /// Reads the last `most` tokens of the slot's sequence, or all.
    Array prefill(std::size_t slot, std::int64_t most) {
        std::span<std::int32_t const> tokens = sequences[*slots_[slot]].tokens;
        return decoder_.prefill(static_cast<std::int64_t>(slot),
                                tokens.last(std::min(tokens.size(), static_cast<std::size_t>(most))));
    }

    template <class Show>
    void take(std::size_t slot, std::span<float const> logits, std::size_t& rest, Show const& show) {
        auto const i = *slots_[slot];
        auto& s = sequences[i];
        auto known = logits.first(static_cast<std::size_t>(codec_.vocabulary()));
        auto token = sample(known, a_.sampling, uniform_of(a_.seed, i, s.made()));
        s.tokens.push_back(token);
        s.last = Clock::now();
        if (s.made() == 1) s.first = s.last;
        bool const ends = codec_.end() == token || !s.text.add(codec_.decode(token));
        s.done = ends || static_cast<std::int64_t>(s.made()) >= a_.tokens;
        if (s.done) slots_[slot].reset(), --rest;
        show(i);
    }

    GenerateArguments const& a_;
    TextCodec const& codec_;
    Decoder& decoder_;
    std::vector<std::optional<std::size_t>> slots_;  // the sequence of each
};

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
               made, all_seconds, 1000 * seconds(one.began, one.first),
               g.decode_seconds > 0 ? static_cast<double>(g.decoded) / g.decode_seconds : 0.0, moved);
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
    auto prompts = static_cast<std::int64_t>(a.prompts.size() + a.prompt_files.size());
    auto decoder = std::visit(
        [&](auto const& m) {
            return Decoder(m, state,
                           {.slots = std::clamp<std::int64_t>(prompts, 1, a.batch),
                            .length = context,
                            .chunk = std::min<std::int64_t>(32, context),
                            .compute = compute});
        },
        model);
    state->allocate();
    load_weights(checkpoint, *state);

    Generation generation(a, codec, decoder);
    for (std::size_t i = 0; i < generation.sequences.size() && !a.quiet; ++i)
        if (auto given = generation.sequences[i].given; given > static_cast<std::size_t>(context))
            fmt::print(stderr, "plait generate: of the {} tokens of prompt {} the model sees the last {}\n",
                       given, i + 1, context);
    Printer printer(generation.sequences, a.json);
    auto begin = Clock::now();
    generation.run([&](std::size_t i) { printer.show(i); });
    if (!a.quiet) print_speed(generation, seconds(begin, Clock::now()));
    return 0;
}

}  // namespace plait::tools
