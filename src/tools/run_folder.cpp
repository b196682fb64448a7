#include "run_folder.hpp"

#include "plait/io/file.hpp"

namespace plait::tools {
namespace {

namespace fs = std::filesystem;

/// What a run must keep: the shapes and dtypes, and which samples it sees in which order.
bool is_fixed(std::string const& key) {
    return key.starts_with("model.") || key == "data.batch" || key == "data.seq" || key == "run.seed" ||
           key == "optimizer.master";
}

/// What changes no number.
bool is_free(std::string const& key) {
    return key.starts_with("checkpoint.") ||
           (key.starts_with("run.") && key != "run.steps" && key != "run.seed");
}

bool holds_run(fs::path const& folder) {
    std::error_code ignored;
    for (auto const* name : {"config.toml", "metrics.jsonl", "checkpoints"})
        if (fs::exists(folder / name, ignored)) return true;
    return false;
}

}  // namespace

Manifest manifest_of(Config const& config, std::int64_t step, std::string const& text_fingerprint,
                     std::string const& layout) {
    Manifest m;
    m.step = step;
    m.seed = static_cast<std::uint64_t>(config.run.seed);
    m.data_cursor = step;
    m.tokens = step * config.data.batch * config.data.seq;
    m.strings = {{"config", config_text(config)}, {"text", text_fingerprint}, {"layout", layout}};
    return m;
}

RunFolder::RunFolder(Config const& config, bool resume) : config_(config), path_(config.run.out) {
    if (!holds_run(path_)) {
        if (resume)
            notes_.push_back(fmt::format("nothing is saved in {}: starting at step 0", path_.string()));
        return;
    }
    lock();
    check<UsageError>(
        resume, "run.out = {} ({}): holds a run already: give --resume to go on with it, or another run.out",
        value_text(config.run.out), config.origins.at("run.out"));
    take_checkpoint();
}

void RunFolder::lock() {
    if (lock_) return;
    lock_.emplace(path_ / ".lock");
    check<UsageError>(lock_->held(),
                      "run.out = {} ({}): another process trains in this folder: wait for its end, or give "
                      "another run.out",
                      value_text(config_.run.out), config_.origins.at("run.out"));
}

void RunFolder::take_checkpoint() {
    abandon_checkpoint(path_);  // of a process that was killed while it saved
    auto found = find_checkpoint(path_);
    for (auto const& note : found.notes) notes_.push_back(note);
    if (!found.checkpoint) {
        check<UsageError>(found.notes.empty(), "no checkpoint of {} can be read: {}", path_.string(),
                          found.notes.empty() ? "" : found.notes.front());
        notes_.push_back(fmt::format("nothing is saved in {}: starting at step 0", path_.string()));
        return;
    }
    checkpoint_ = std::move(found.checkpoint);
    try {
        // It names an older one where a save was killed between its last two steps.
        auto const file = path_ / "checkpoints" / "latest";
        auto const name = checkpoint_->folder.filename().string() + "\n";
        std::error_code ignored;
        if (!fs::exists(file, ignored) || read_file(file) != name) point_latest(*checkpoint_);
    } catch (Error const& e) {
        notes_.push_back(e.what());
    }
    auto const folder = checkpoint_->folder.string();
    auto const& strings = checkpoint_->manifest.strings;
    auto saved = strings.find("config");
    check<UsageError>(saved != strings.end(), "{} was not saved by plait train: it holds no configuration",
                      folder);
    compare(saved->second);
}

void RunFolder::compare(std::string const& saved_config) {
    auto before = parse_config(saved_config, checkpoint_->folder.string());
    std::map<std::string, std::string> texts;
    for_each_key(before, [&](std::string const& key, auto const& value) { texts[key] = value_text(value); });
    for_each_key(config_, [&](std::string const& key, auto const& value) {
        auto const& was = texts.at(key);
        auto now = value_text(value);
        if (was == now || is_free(key)) return;
        check<UsageError>(!is_fixed(key),
                          "{} = {} ({}): the run in {} began with {}: keep that, or give another run.out",
                          key, now, config_.origins.at(key), path_.string(), was);
        notes_.push_back(fmt::format("changed since the checkpoint: {} = {}, was {}", key, now, was));
    });
}

std::string RunFolder::text_fingerprint() const {
    if (!checkpoint_) return {};
    auto const& strings = checkpoint_->manifest.strings;
    auto it = strings.find("text");
    return it == strings.end() ? "" : it->second;
}

void RunFolder::open(int ranks) {
    ranks_ = ranks;
    try {
        make_folder(path_);
        bool const looked = lock_.has_value();
        lock();
        // Another process may have begun and ended a run since the constructor looked.
        check(looked || !holds_run(path_), "another process has begun a run here meanwhile");
        write_file_atomically(path_ / "config.toml", config_text(config_));
        // Without a checkpoint step 0 is done again as well.
        open_files(checkpoint_ ? step() : -1);
    } catch (UsageError const&) {
        throw;
    } catch (Error const& e) {
        fail<UsageError>("run.out = {} ({}): {}", value_text(config_.run.out), config_.origins.at("run.out"),
                         e.what());
    }
    if (auto n = metrics_->cut_rows(); n > 0 && checkpoint_)
        notes_.push_back(fmt::format("{} rows after step {} were cut from metrics.jsonl", n, step()));
}

void RunFolder::write_row(MetricsRow const& row) {
    metrics_->write(row);
    if (tensorboard_) tensorboard_->write(row, ranks_);
}

void RunFolder::write_samples(std::vector<MetricsRow> const& rows) {
    std::exception_ptr wrong;
    for (auto const& row : rows) try {
            samples_->write(row);
        } catch (Error const&) {  // it waits, and so must the others
            wrong = std::current_exception();
        }
    if (wrong) std::rethrow_exception(wrong);
}

void RunFolder::cut_rows(std::int64_t step) {
    write_waiting_rows();
    open_files(step);
}

void RunFolder::write_waiting_rows() {
    metrics_->write_waiting();
    if (samples_) samples_->write_waiting();
}

void RunFolder::open_files(std::int64_t last_step) {
    metrics_.reset();
    metrics_.emplace(path_ / "metrics.jsonl", last_step);
    auto const samples = path_ / "samples.jsonl";
    std::error_code ignored;
    // A run that draws no more cuts what it drew after the checkpoint.
    samples_.reset();
    if (config_.run.sample_every > 0 || fs::exists(samples, ignored)) samples_.emplace(samples, last_step);
    if (config_.run.tensorboard) tensorboard_.emplace(path_, last_step + 1);
}

std::string RunFolder::resume_command(int ranks) const {
    // Other clusters stand in config.toml.
    auto const launcher = config_.run.cluster == "mpi" ? fmt::format("mpirun -n {} ", ranks) : "";
    return fmt::format("{}plait train --config {} --resume", launcher, (path_ / "config.toml").string());
}

}  // namespace plait::tools
