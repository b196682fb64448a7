#include <unistd.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <numbers>

#include "commands.hpp"
#include "corpus.hpp"
#include "inspect.hpp"
#include "model.hpp"
#include "plait/cpu/backend.hpp"
#include "plait/data/entropy.hpp"
#include "plait/train/progress.hpp"
#include "plait/train/signals.hpp"
#include "run_folder.hpp"

namespace plait::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
    fmt::print(format, std::forward<Args>(args)...);
    fmt::print("\n");
    std::fflush(stdout);
}

/// "nan" without the sign that some processors give it.
std::string number_text(float x) { return std::isnan(x) ? "nan" : fmt::format("{}", x); }

std::string count(std::int64_t n) { return count_text(static_cast<double>(n)); }

/// One training run, from its first line to its last.
class Trainer {
  public:
    Trainer(Config const& config, Corpus const& corpus, Programs& programs, RunFolder& folder)
        : config_(config),
          corpus_(corpus),
          programs_(programs),
          folder_(folder),
          loader_(corpus.train_bytes(), corpus.train, config.data.batch, config.data.seq, seed()),
          text_(corpus.fingerprint()),
          done_(folder.step()) {
        Meta meta{i32, {config.data.batch, config.data.seq}};
        for (auto const* name : {"tokens", "targets"}) batch_[name] = Array(meta);
        if (corpus.validation.empty()) return;
        validation_.emplace(corpus.validation_bytes(), corpus.validation, config.data.batch, config.data.seq,
                            seed(), Order::fixed, "validation");
    }

    std::string const& text_fingerprint() const { return text_; }

    /// Trains up to run.steps or a signal.
    void run() {
        StopSignals signals;
        prepare();
        Progress progress(stdout, config_.run.steps);
        auto start = Clock::now();
        if (validation_ && !folder_.has_checkpoint())
            folder_.write_row(validated({{"step", std::int64_t{0}}}, progress));
        while (done_ < config_.run.steps && !signals.requested()) {
            step(progress);
            auto every = config_.checkpoint.every;
            if (every > 0 && done_ % every == 0 && done_ < config_.run.steps && !signals.requested()) save();
        }
        auto saved = save();
        if (done_ < config_.run.steps) {
            progress.note(fmt::format("stopped by {} after step {}/{}; saved {}; go on with: {}",
                                      signals.name(), done_, config_.run.steps, saved,
                                      folder_.resume_command()));
            return;
        }
        progress.note(
            fmt::format("done: {} steps, this time {}", done_, duration_text(seconds_since(start))));
        if (bits_)
            progress.note(
                fmt::format("validation {:.3f} bits per byte, byte-bigram entropy of the same text {:.3f}",
                            *bits_, conditional_entropy(corpus_.validation_copy(), 2)));
        progress.note(fmt::format("saved {}; try: plait generate {} --prompt ...", saved, config_.run.out));
    }

  private:
    std::uint64_t seed() const { return static_cast<std::uint64_t>(config_.run.seed); }

    void prepare() {
        programs_.state->set_seed(seed());
        programs_.state->allocate();
        if (folder_.has_checkpoint()) folder_.restore(*programs_.state);
        programs_.train.set_seed(seed());
        programs_.train.set_steps_done(done_);
    }

    void fill(Loader const& loader, std::int64_t step) {
        loader.fill(step, 0, config_.data.batch, batch_.at("tokens").values<std::int32_t>().data(),
                    batch_.at("targets").values<std::int32_t>().data());
    }

    /// The row with the validation loss, the mean over the first batches of the fixed order.
    MetricsRow validated(MetricsRow row, Progress& progress) {
        // Whole batches only, so that no window counts twice.
        auto all = std::max<std::int64_t>(validation_->windows() / config_.data.batch, 1);
        auto batches = std::min(config_.run.validate_batches, all);
        double loss = 0;
        for (std::int64_t b = 0; b < batches; ++b) {
            fill(*validation_, b);
            loss += programs_.validate(batch_).front().second.item() / static_cast<double>(batches);
        }
        bits_ = loss / std::numbers::ln2;
        progress.note(fmt::format("step {}/{}  validation loss {:.3f}, {:.3f} bits per byte", done_,
                                  config_.run.steps, loss, *bits_));
        row.insert(row.end(), {{"validation_loss", loss}, {"validation_bits_per_byte", *bits_}});
        return row;
    }

    void step(Progress& progress) {
        auto start = Clock::now();
        fill(loader_, done_);
        auto values = programs_.train(batch_);
        auto seconds = seconds_since(start);
        auto number = ++done_;
        auto loss = static_cast<float>(values.at(0).second.item());
        auto norm = static_cast<float>(values.at(1).second.item());
        bool const good = std::isfinite(loss) && std::isfinite(norm);

        auto tokens = config_.data.batch * config_.data.seq;
        MetricsRow row{{"step", number}, {"loss", loss}};
        auto every = config_.run.validate_every;
        bool const look = number == config_.run.steps || (every > 0 && number % every == 0);
        if (good) {
            progress.step({number,
                           loss,
                           norm,
                           static_cast<double>(tokens) / seconds,
                           seconds,
                           {},
                           programs_.arena_bytes()});
            if (look && validation_) row = validated(std::move(row), progress);
        }
        row.insert(row.end(), {{"grad_norm", norm},
                               {"learning_rate", static_cast<float>(programs_.rate(number))},
                               {"tokens", number * tokens},
                               {"tokens_per_second", static_cast<double>(tokens) / seconds},
                               {"step_seconds", seconds},
                               {"mfu", std::numeric_limits<double>::quiet_NaN()},
                               {"memory_peak_bytes", programs_.arena_bytes()},
                               {"wire_bytes", std::int64_t{0}}});
        std::string damage;  // a weight that is not finite, though loss and norm were
        if (config_.run.hash) {
            try {
                row.emplace_back("params_hash", fmt::format("{:016x}", programs_.state->parameter_hash()));
            } catch (Error const& e) {
                damage = e.what();
            }
        }
        folder_.write_row(row);
        check(damage.empty(), "step {}: {}: stopped; the last checkpoint is {}", number, damage,
              last_checkpoint());
        check(good,
              "step {}: the loss is {} and the gradient norm {}: stopped, the weights stay those of step {}\n"
              "the last checkpoint is {}; a lower optimizer.rate or optimizer.clip may help",
              number, number_text(loss), number_text(norm), number - 1, last_checkpoint());
    }

    std::string last_checkpoint() const {
        return folder_.last_checkpoint().empty() ? "not there yet" : folder_.last_checkpoint();
    }

    /// Weights that are not finite are never saved.
    std::string save() {
        try {
            programs_.state->parameter_hash();
        } catch (Error const& e) {
            fail("step {}: {}: not saved; the last checkpoint is {}", done_, e.what(), last_checkpoint());
        }
        return folder_.save(*programs_.state, done_, text_).string();
    }

    Config const& config_;
    Corpus const& corpus_;
    Programs& programs_;
    RunFolder& folder_;
    Loader loader_;
    std::optional<Loader> validation_;
    std::map<std::string, Array> batch_;
    std::string text_;
    std::int64_t done_;           // steps
    std::optional<double> bits_;  // per byte, of the newest validation
};

void check_memory(Programs const& programs) {
    auto has = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
    auto wants = programs.arena_bytes();
    check<UsageError>(
        wants <= has,
        "the run needs {} of memory, this machine has {}: use a smaller model or data.batch, more "
        "plan.micro_batches, or plan.recompute; --dry-run shows what takes it",
        bytes_text(static_cast<double>(wants)), bytes_text(static_cast<double>(has)));
}

void describe(Config const& config, Programs const& programs, Backend const& backend) {
    auto const& m = config.model;
    say("model   {}: {} layers, dim {}, {} heads; {} parameters", m.family, m.layers, m.dim, m.heads,
        count(count_parameters(*programs.state)));
    say("batch   {} x {} tokens, micro-batches: {}, compute {}", config.data.batch, config.data.seq,
        config.plan.micro_batches, config.plan.compute);
    say("device  {}, {} {}, {} kernels; {} of memory planned", backend.name(), backend.workers(),
        backend.workers() == 1 ? "thread" : "threads", cpu::name_of(cpu::best_isa()),
        bytes_text(static_cast<double>(programs.arena_bytes())));
}

int train_run(Config const& config, bool resume) {
    RunFolder folder(config, resume);
    bool const finished = folder.has_checkpoint() && folder.step() >= config.run.steps;
    if (finished) {
        for (auto const& note : folder.notes()) say("note    {}", note);
        say("finished: {} has done {} of {} steps; a larger run.steps goes on", config.run.out, folder.step(),
            config.run.steps);
        return 0;
    }
    auto corpus = load_corpus(config.data);
    say("text    {}", corpus.summary());
    // A text that is too short is said before anything that is too large.
    Loader(corpus.train_bytes(), corpus.train, config.data.batch, config.data.seq, 1);
    if (corpus.validation.empty()) say("note    no validation: its part of the text is empty");
    auto backend = cpu_backend(static_cast<int>(config.run.threads));
    auto programs = compile_programs(config, backend);
    check_memory(programs);
    Trainer trainer(config, corpus, programs, folder);
    auto const had = folder.text_fingerprint();
    folder.open();
    for (auto const& note : folder.notes()) say("note    {}", note);
    if (!had.empty() && had != trainer.text_fingerprint())
        say("note    the text has changed since the checkpoint: it had {}, now {}", had,
            trainer.text_fingerprint());
    describe(config, programs, *backend);
    say("run     {}: steps {} to {}{}", config.run.out, folder.step() + 1, config.run.steps,
        folder.has_checkpoint() ? ", from " + folder.last_checkpoint() : "");
    try {
        trainer.run();
    } catch (UsageError const& e) {
        throw Error(e.what());  // training has begun: no longer a matter of arguments
    }
    return 0;
}

int inspect(TrainArguments const& arguments, Config const& config) {
    auto backend = cpu_backend(static_cast<int>(config.run.threads));
    auto programs = compile_programs(config, backend);
    for (auto const& d : arguments.dumps) fmt::print("{}", dump_text(d, programs));
    if (!arguments.dry_run) return 0;
    std::int64_t text = 0;
    auto outside = measure_outside(0, backend->workers());
    if (!config.data.path.empty()) {
        auto corpus = load_corpus(config.data);
        say("text        {}", corpus.summary());
        text = corpus.resident_bytes();
    }
    outside.text = text;
    fmt::print("{}", dry_run_text(config, programs, outside));
    return 0;
}

}  // namespace

int train(TrainArguments const& arguments) {
    auto config = load_config(arguments.config, arguments.overrides);
    if (arguments.print_config) {
        fmt::print("{}", config_text(config));
        return 0;
    }
    check_config(config);
    check<UsageError>(!arguments.trace, "--trace is not in this version yet");
    // --sync asks for nothing here: the CPU runs op by op anyway.
    if (!arguments.dumps.empty() || arguments.dry_run) return inspect(arguments, config);
    say("plait train: {} on {}", config.model.family,
        config.data.path.empty() ? "no text" : value_text(config.data.path));
    return train_run(config, arguments.resume);
}

}  // namespace plait::tools
