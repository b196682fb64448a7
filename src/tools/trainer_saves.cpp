// What a run does when a step is bad, its saves and its samples.
#include <chrono>
#include <cmath>
#include <sstream>

#include "trainer.hpp"

namespace plait::tools {
namespace {

/// "nan" without the sign that some processors give it.
std::string number_text(float x) { return std::isnan(x) ? "nan" : fmt::format("{}", x); }

}  // namespace

void Trainer::meet_bad_step(float loss, float norm) {
    auto const& o = config_.optimizer;
    auto what = fmt::format("step {}: the loss is {} and the gradient norm {}", done_, number_text(loss),
                            number_text(norm));
    if (auto const limit = losses_.limit(); std::isfinite(loss) && loss > limit)
        what = fmt::format("step {}: the loss is {}, a spike above {}", done_, loss, limit);
    if (++bad_in_row_ <= o.skips) {
        note(fmt::format("{}: skipped, the weights stay those of the step before ({} in a row of at most {})",
                         what, bad_in_row_, o.skips));
        return;
    }
    take(saver_->wait());
    if (rollbacks_ < o.rollbacks && roll_back(what)) return;
    fail<AgreedError>(
        "{}: stopped, the weights stay those of step {}\n"
        "the last checkpoint is {}; a lower optimizer.rate or optimizer.clip may help",
        what, done_ - bad_in_row_, last_checkpoint());
}

bool Trainer::roll_back(std::string const& why) {
    std::optional<Checkpoint> found;
    together(world_, [&] {
        if (first()) found = find_checkpoint(config_.run.out).checkpoint;
    });
    auto const back = share_checkpoint(world_, found);
    if (!back || back->manifest.step > done_) return false;
    restore_checkpoint(shared_, *back);
    auto const next = done_ + shift_;  // the batch after the bad ones
    auto const rollbacks = rollbacks_ + 1;
    take_up(back->manifest);
    rollbacks_ = rollbacks;
    shift_ = next - done_;
    together(world_, [&] {
        if (first()) folder_->cut_rows(done_);
    });
    note(fmt::format("{}: back to step {} of {} (rollback {} of at most {}); its data goes on at batch {}",
                     why, done_, back->folder.string(), rollbacks_, config_.optimizer.rollbacks, next + 1));
    return true;
}

void Trainer::take_up(Manifest const& manifest) {
    done_ = manifest.step;
    shift_ = manifest.data_cursor - manifest.step;
    programs_.train.set_steps_done(done_);
    losses_ = LossWatch(config_.optimizer.spike);
    bad_in_row_ = rollbacks_ = 0;
    auto const seen = manifest.strings.find("losses"), counts = manifest.strings.find("bad_steps");
    if (seen != manifest.strings.end()) losses_.set(seen->second);
    if (counts != manifest.strings.end()) std::istringstream(counts->second) >> bad_in_row_ >> rollbacks_;
}

void Trainer::draw_samples() {
    for (auto const& v : programs_.state->variables()) {
        if (v->kind != VariableKind::parameter) continue;
        auto const whole = shared_.gather(*v);
        if (sampler_) sampler_->set(v->path, whole);
    }
    // The others wait, but in no one call for so long that they would take rank 0 for lost.
    auto busy = [&](std::int64_t here) {
        take_largest(world_, std::span(&here, 1));
        return here > 0;
    };
    if (!first()) {
        while (busy(0)) {}
        return;
    }
    using Clock = std::chrono::steady_clock;
    auto told = Clock::now();
    try {
        folder_->write_samples(sampler_->draw(done_, [&] {
            if (Clock::now() - told < std::chrono::seconds(20)) return;
            busy(1);
            told = Clock::now();
        }));
    } catch (CommunicationError const&) {
        throw;
    } catch (Error const& e) {
        note(fmt::format("step {}: samples: {}; training goes on", done_, e.what()));
    }
    busy(0);
}

Manifest Trainer::manifest() const {
    auto m = manifest_of(config_, done_, process_.text(), layout_of(config_, mesh_));
    m.data_cursor = done_ + shift_;
    m.strings["losses"] = losses_.text();
    m.strings["bad_steps"] = fmt::format("{} {}", bad_in_row_, rollbacks_);
    return m;
}

void Trainer::save() {
    take(saver_->wait());
    auto fails = [&](std::exception const& e) { take(SaveOutcome{done_, "", e.what()}); };
    try {
        saver_->start(manifest(), static_cast<int>(config_.checkpoint.keep));
    } catch (AgreedError const& e) {
        fails(e);
    } catch (AgreedUsageError const& e) {
        fails(e);
    }
}

void Trainer::save_last() {
    take(saver_->wait());
    std::string error;
    try {
        shared_.parameter_hash();
        saver_->start_from_memory(manifest(), static_cast<int>(config_.checkpoint.keep));
        auto const outcome = saver_->wait();
        last_ = outcome->folder.empty() ? last_ : outcome->folder;
        error = outcome->error;
    } catch (AgreedError const& e) {
        error = e.what();
    }
    check<AgreedError>(error.empty(), "step {}: {}: not saved; the last checkpoint is {}", done_, error,
                       last_checkpoint());
}

void Trainer::take(std::optional<SaveOutcome> const& outcome) {
    if (!outcome) return;
    if (outcome->error.empty()) last_ = outcome->folder;
    else
        note(fmt::format("step {}: not saved: {}; training goes on, the last checkpoint is {}", outcome->step,
                         outcome->error, last_checkpoint()));
}

}  // namespace plait::tools
