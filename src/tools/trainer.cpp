#include "trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <utility>

#include "plait/data/entropy.hpp"
#include "plait/train/speed.hpp"

namespace plait::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::uint64_t seed_of(Config const& config) { return static_cast<std::uint64_t>(config.run.seed); }

std::int64_t wire_bytes(Mesh const& mesh) {
    std::int64_t sum = 0;
    for (auto const& [axis, row] : mesh.traffic()) sum += row.bytes;
    return sum;
}

}  // namespace

Corpus const& Process::corpus(Config const& config) {
    std::lock_guard lock(mutex_);
    if (!corpus_) {
        corpus_ = load_corpus(config);
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
    auto text = fmt::format("{}; zero {}; bits {}", mesh.text(), config.plan.zero, config.plan.bits);
    for (auto const& line : config.plan.lines) text += "; " + line;
    return text;
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
      corpus_(process.corpus(config)),
      loader_(corpus_.train_tokens(), corpus_.train, config.data.batch, config.data.seq, seed_of(config)),
      rows_(mesh_.samples(config.data.batch)),
      losses_(config.optimizer.spike),
      last_(checkpoint ? checkpoint->folder.string() : "") {
    Meta meta{i32, {rows_.second - rows_.first, config.data.seq}};
    for (auto const* name : {"tokens", "targets"}) batch_[name] = Array(meta);
    if (corpus_.validation.empty()) return;
    validation_.emplace(corpus_.validation_tokens(), corpus_.validation, config.data.batch, config.data.seq,
                        seed_of(config), Order::fixed, "validation");
}

void Trainer::run() {
    process_.signals();
    prepare();
    // mpirun gives rank 0 a terminal of its own, whatever reads it.
    bool const launched = config_.run.cluster == "mpi" && world_.size() > 1;
    if (first()) progress_.emplace(stdout, config_.run.steps, launched ? std::optional(false) : std::nullopt);
    if (trace_) tracer_.emplace(*trace_, programs_.train, world_, done_ + 1, config_.run.steps);
    auto start = Clock::now();
    if (validation_ && !checkpoint_) {
        auto row = validated({{"step", std::int64_t{0}}});
        write_row(row);
    }
    look_for_signals();
    while (done_ < config_.run.steps && !stop_) {
        auto const before = done_;
        step();
        // After a rollback what was drawn before holds.
        auto const draw = config_.run.sample_every;
        if (draw > 0 && done_ > before && (done_ % draw == 0 || done_ == config_.run.steps)) draw_samples();
        auto every = config_.checkpoint.every;
        if (every > 0 && done_ % every == 0 && done_ < config_.run.steps && !stop_) save();
    }
    if (tracer_) note_trace(tracer_->end());
    save_last();
    together(world_, [&] {
        if (first()) folder_->write_waiting_rows();
    });
    if (first()) finish(seconds_since(start));
}

void Trainer::note(std::string const& line) {
    if (progress_) progress_->note(line);
}

void Trainer::note_trace(std::optional<std::string> const& line) {
    if (line) note(*line);
}

void Trainer::write_row(MetricsRow const& row) {
    if (!first()) return;
    try {
        folder_->write_row(row);
        rows_wait_ = false;
    } catch (Error const& e) {
        if (!std::exchange(rows_wait_, true))
            note(fmt::format("step {}: {}: rows wait in memory, training goes on", done_, e.what()));
    }
}

void Trainer::finish(double seconds) {
    if (done_ < config_.run.steps) {
        note(fmt::format("stopped by {} after step {}/{}; saved {}; go on with: {}",
                         StopSignals::name_of(static_cast<int>(stop_)), done_, config_.run.steps, last_,
                         folder_->resume_command(world_.size())));
        return;
    }
    note(fmt::format("done: {} steps, this time {}", done_, duration_text(seconds)));
    if (bits_)
        note(fmt::format(
            "validation {:.3f} bits per byte; the same text by byte bigrams {:.3f}, trigrams {:.3f}", *bits_,
            conditional_entropy(corpus_.validation_copy(), 2),
            conditional_entropy(corpus_.validation_copy(), 3)));
    note(fmt::format("saved {}; try: plait generate {} --prompt ...", last_, config_.run.out));
}

void Trainer::prepare() {
    auto& backend = programs_.state->backend();
    world_.barrier().wait();  // ranks that share a machine measure at one time, as they will train
    ceiling_ = matmul_rate(backend, parse_dtype(config_.plan.compute));
    flops_ = program_flops(programs_.train.program());
    together(world_, [&] {
        programs_.state->set_seed(seed_of(config_));
        programs_.state->allocate();
        if (sampler_) sampler_->allocate();
    });
    if (checkpoint_) restore_checkpoint(shared_, *checkpoint_);
    programs_.train.set_seed(seed_of(config_));
    if (checkpoint_) take_up(checkpoint_->manifest);
    using From = CheckpointSaver::From;
    saver_.emplace(shared_, config_.run.out, config_.checkpoint.every > 0 ? From::snapshot : From::memory);
    check(saver_->bytes() == programs_.snapshot_bytes, "the snapshot takes {} bytes, but {} were planned",
          saver_->bytes(), programs_.snapshot_bytes);
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
    row.emplace_back("validation_loss", loss);
    if (auto const tokens = corpus_.tokens_per_byte()) bits_ = loss / std::numbers::ln2 * *tokens;
    if (bits_) row.emplace_back("validation_bits_per_byte", *bits_);
    note(fmt::format("step {}/{}  validation loss {:.3f}{}", done_, config_.run.steps, loss,
                     bits_ ? fmt::format(", {:.3f} bits per byte", *bits_) : ""));
    return row;
}

void Trainer::step() {
    if (tracer_) tracer_->before(done_ + 1);
    auto start = Clock::now();
    fill(loader_, done_ + shift_);
    if (programs_.loss_limit) *programs_.loss_limit = losses_.limit();
    mesh_.reset_traffic();
    auto values = programs_.train(batch_);
    auto seconds = seconds_since(start);
    auto number = ++done_;
    if (tracer_) note_trace(tracer_->after(number));
    if (recording_.on) {
        auto const recorded = recorded_values(world_, programs_.train, values, recording_.values);
        together(world_, [&] {
            if (recording_.writer) recording_.writer->write(recorded);
        });
    }
    auto loss = static_cast<float>(values.at(0).second.item());
    auto norm = static_cast<float>(values.at(1).second.item());

    bool const bad = !(std::isfinite(loss) && std::isfinite(norm) && loss <= losses_.limit());
    std::int64_t worst[] = {process_.signals().number(), bad, programs_.arena_bytes(), wire_bytes(mesh_),
                            saver_->busy()};
    take_largest(world_, worst);
    stop_ = worst[0];
    if (saver_->under_way() && worst[4] == 0) take(saver_->advance());
    bool const good = worst[1] == 0;

    auto tokens = config_.data.batch * config_.data.seq;
    auto const speed = static_cast<double>(tokens) / seconds;
    // A ceiling that was measured while others used the machine is too low: a step above it raises it.
    auto const rate = flops_ / seconds;
    ceiling_ = std::max(ceiling_, rate);
    auto const mfu = rate / ceiling_;
    MetricsRow row{{"step", number}, {"loss", loss}};
    auto every = config_.run.validate_every;
    bool const look = number == config_.run.steps || (every > 0 && number % every == 0);
    if (good) {
        if (progress_) progress_->step({number, loss, norm, speed, seconds, mfu, worst[2]});
        if (look && validation_) row = validated(std::move(row));
    }
    row.insert(row.end(), {{"grad_norm", norm},
                           {"learning_rate", static_cast<float>(programs_.rate(number))},
                           {"tokens", number * tokens},
                           {"tokens_per_second", speed},
                           {"step_seconds", seconds},
                           {"mfu", mfu},
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
    write_row(row);
    if (!damage.empty()) {
        take(saver_->wait());
        fail<AgreedError>("step {}: {}: stopped; the last checkpoint is {}", number, damage,
                          last_checkpoint());
    }
    if (!good) return meet_bad_step(loss, norm);
    losses_.add(loss);
    bad_in_row_ = 0;
}

}  // namespace plait::tools
