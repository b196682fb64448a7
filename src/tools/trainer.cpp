#include "trainer.hpp"

#include <chrono>
#include <cmath>
#include <limits>
#include <numbers>

#include "plait/data/entropy.hpp"

namespace plait::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// "nan" without the sign that some processors give it.
std::string number_text(float x) { return std::isnan(x) ? "nan" : fmt::format("{}", x); }

std::uint64_t seed_of(Config const& config) { return static_cast<std::uint64_t>(config.run.seed); }

std::int64_t wire_bytes(Mesh const& mesh) {
    std::int64_t sum = 0;
    for (auto const& [axis, row] : mesh.traffic()) sum += row.bytes;
    return sum;
}

}  // namespace

Corpus const& Process::corpus(DataConfig const& data) {
    std::lock_guard lock(mutex_);
    if (!corpus_) {
        corpus_ = load_corpus(data);
        text_ = corpus_->fingerprint();
    }
    return *corpus_;
}

StopSignals const& Process::signals() {
    std::lock_guard lock(mutex_);
    if (!signals_) signals_.emplace();
    return *signals_;
}

std::string layout_of(Config const& config, Mesh const& mesh) {
    return fmt::format("{}; zero {}; bits {}", mesh.text(), config.plan.zero, config.plan.bits);
}

Trainer::Trainer(Config const& config, Process& process, Programs& programs, Communicator& world,
                 RunFolder* folder, std::optional<Checkpoint> const& checkpoint)
    : config_(config),
      process_(process),
      programs_(programs),
      mesh_(programs.plan.mesh()),
      world_(world),
      folder_(folder),
      checkpoint_(checkpoint),
      shared_(world, programs.state),
      corpus_(process.corpus(config.data)),
      loader_(corpus_.train_bytes(), corpus_.train, config.data.batch, config.data.seq, seed_of(config)),
      rows_(mesh_.samples(config.data.batch)),
      done_(checkpoint ? checkpoint->manifest.step : 0),
      last_(checkpoint ? checkpoint->folder.string() : "") {
    Meta meta{i32, {rows_.second - rows_.first, config.data.seq}};
    for (auto const* name : {"tokens", "targets"}) batch_[name] = Array(meta);
    if (corpus_.validation.empty()) return;
    validation_.emplace(corpus_.validation_bytes(), corpus_.validation, config.data.batch, config.data.seq,
                        seed_of(config), Order::fixed, "validation");
}

void Trainer::run() {
    process_.signals();
    prepare();
    // mpirun gives rank 0 a terminal of its own, whatever reads it.
    bool const launched = config_.run.cluster == "mpi" && world_.size() > 1;
    if (first()) progress_.emplace(stdout, config_.run.steps, launched ? std::optional(false) : std::nullopt);
    auto start = Clock::now();
    if (validation_ && !checkpoint_) {
        auto row = validated({{"step", std::int64_t{0}}});
        if (first()) folder_->write_row(row);
    }
    look_for_signals();
    while (done_ < config_.run.steps && !stop_) {
        step();
        auto every = config_.checkpoint.every;
        if (every > 0 && done_ % every == 0 && done_ < config_.run.steps && !stop_) save();
    }
    auto saved = save();
    if (first()) finish(saved, seconds_since(start));
}

void Trainer::note(std::string const& line) {
    if (progress_) progress_->note(line);
}

void Trainer::finish(std::string const& saved, double seconds) {
    if (done_ < config_.run.steps) {
        note(fmt::format("stopped by {} after step {}/{}; saved {}; go on with: {}",
                         StopSignals::name_of(static_cast<int>(stop_)), done_, config_.run.steps, saved,
                         folder_->resume_command(world_.size())));
        return;
    }
    note(fmt::format("done: {} steps, this time {}", done_, duration_text(seconds)));
    if (bits_)
        note(fmt::format("validation {:.3f} bits per byte, byte-bigram entropy of the same text {:.3f}",
                         *bits_, conditional_entropy(corpus_.validation_copy(), 2)));
    note(fmt::format("saved {}; try: plait generate {} --prompt ...", saved, config_.run.out));
}

void Trainer::prepare() {
    together(world_, [&] {
        programs_.state->set_seed(seed_of(config_));
        programs_.state->allocate();
    });
    if (checkpoint_) restore_checkpoint(shared_, *checkpoint_);
    programs_.train.set_seed(seed_of(config_));
    programs_.train.set_steps_done(done_);
}

void Trainer::look_for_signals() {
    stop_ = process_.signals().number();
    take_largest(world_, std::span(&stop_, 1));
}

void Trainer::fill(Loader const& loader, std::int64_t step) {
    loader.fill(step, rows_.first, rows_.second, batch_.at("tokens").values<std::int32_t>().data(),
                batch_.at("targets").values<std::int32_t>().data());
}

MetricsRow Trainer::validated(MetricsRow row) {
    // Whole batches only, so that no window counts twice.
    auto all = std::max<std::int64_t>(validation_->windows() / config_.data.batch, 1);
    auto batches = std::min(config_.run.validate_batches, all);
    double loss = 0;
    for (std::int64_t b = 0; b < batches; ++b) {
        fill(*validation_, b);
        loss += programs_.validate(batch_).front().second.item() / static_cast<double>(batches);
    }
    bits_ = loss / std::numbers::ln2;
    note(fmt::format("step {}/{}  validation loss {:.3f}, {:.3f} bits per byte", done_, config_.run.steps,
                     loss, *bits_));
    row.insert(row.end(), {{"validation_loss", loss}, {"validation_bits_per_byte", *bits_}});
    return row;
}

void Trainer::step() {
    auto start = Clock::now();
    fill(loader_, done_);
    mesh_.reset_traffic();
    auto values = programs_.train(batch_);
    auto seconds = seconds_since(start);
    auto number = ++done_;
    if (recording_.on) {
        auto const recorded = recorded_values(world_, programs_.train, values, recording_.values);
        together(world_, [&] {
            if (recording_.writer) recording_.writer->write(recorded);
        });
    }
    auto loss = static_cast<float>(values.at(0).second.item());
    auto norm = static_cast<float>(values.at(1).second.item());

    std::int64_t worst[] = {process_.signals().number(), !(std::isfinite(loss) && std::isfinite(norm)),
                            programs_.arena_bytes(), wire_bytes(mesh_)};
    take_largest(world_, worst);
    stop_ = worst[0];
    bool const good = worst[1] == 0;

    auto tokens = config_.data.batch * config_.data.seq;
    MetricsRow row{{"step", number}, {"loss", loss}};
    auto every = config_.run.validate_every;
    bool const look = number == config_.run.steps || (every > 0 && number % every == 0);
    if (good) {
        auto const speed = static_cast<double>(tokens) / seconds;
        if (progress_) progress_->step({number, loss, norm, speed, seconds, {}, worst[2]});
        if (look && validation_) row = validated(std::move(row));
    }
    row.insert(row.end(), {{"grad_norm", norm},
                           {"learning_rate", static_cast<float>(programs_.rate(number))},
                           {"tokens", number * tokens},
                           {"tokens_per_second", static_cast<double>(tokens) / seconds},
                           {"step_seconds", seconds},
                           {"mfu", std::numeric_limits<double>::quiet_NaN()},
                           {"memory_peak_bytes", worst[2]},
                           {"wire_bytes", worst[3]}});
    std::string damage;  // a weight that is not finite, though loss and norm were, or copies that differ
    if (config_.run.hash) {
        try {
            row.emplace_back("params_hash", fmt::format("{:016x}", shared_.parameter_hash()));
        } catch (AgreedError const& e) {
            damage = e.what();
        }
    }
    if (first()) folder_->write_row(row);
    check<AgreedError>(damage.empty(), "step {}: {}: stopped; the last checkpoint is {}", number, damage,
                       last_checkpoint());
    check<AgreedError>(
        good,
        "step {}: the loss is {} and the gradient norm {}: stopped, the weights stay those of step {}\n"
        "the last checkpoint is {}; a lower optimizer.rate or optimizer.clip may help",
        number, number_text(loss), number_text(norm), number - 1, last_checkpoint());
}

std::string Trainer::save() {
    try {
        shared_.parameter_hash();
    } catch (AgreedError const& e) {
        fail<AgreedError>("step {}: {}: not saved; the last checkpoint is {}", done_, e.what(),
                          last_checkpoint());
    }
    auto manifest = manifest_of(config_, done_, process_.text(), layout_of(config_, mesh_));
    last_ = save_checkpoint(shared_, config_.run.out, std::move(manifest),
                            static_cast<int>(config_.checkpoint.keep))
                .string();
    return last_;
}

}  // namespace plait::tools
