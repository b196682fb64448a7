#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"
#include "plait/io/checkpoint.hpp"
#include "plait/io/file.hpp"
#include "plait/train/metrics.hpp"
#include "plait/train/tensorboard.hpp"

namespace plait::tools {

/// What a checkpoint of this run says of itself after `step`; `layout` says where its values were.
Manifest manifest_of(Config const& config, std::int64_t step, std::string const& text_fingerprint,
                     std::string const& layout);

/// The folder of a training run: config.toml, metrics.jsonl and checkpoints/. One rank looks after it.
class RunFolder {
  public:
    /// Looks at run.out and changes no more than to lock a folder that holds a run, and to remove what a save
    /// that was interrupted left there, letting `latest` name the checkpoint that is found. Throws UsageError
    /// for one that holds a run unless `resume`, for one that another process trains in, for one whose
    /// checkpoints are all damaged, and for a checkpoint of another model, batch or seed, naming the key.
    RunFolder(Config const& config, bool resume);

    /// Steps done by the checkpoint to go on from; 0 without one.
    std::int64_t step() const { return checkpoint_ ? checkpoint_->manifest.step : 0; }
    std::optional<Checkpoint> const& checkpoint() const { return checkpoint_; }
    /// What a user should know of the resumption, a line each.
    std::vector<std::string> const& notes() const { return notes_; }
    /// What the checkpoint's manifest says of the text; empty without one.
    std::string text_fingerprint() const;

    /// Makes and locks the folder, writes config.toml and cuts metrics and samples after the checkpoint's
    /// step. Throws UsageError when the folder cannot be written, or another process was faster. `ranks` is
    /// their number.
    void open(int ranks);
    /// Into metrics.jsonl and, with run.tensorboard, an event file.
    void write_row(MetricsRow const& row);
    /// Into samples.jsonl.
    void write_samples(std::vector<MetricsRow> const& rows);
    /// What they hold of steps after `step` counts no more.
    void cut_rows(std::int64_t step);
    /// Writes the rows that wait for room on the disk.
    void write_waiting_rows();
    /// The command that goes on with this run on as many ranks.
    std::string resume_command(int ranks) const;

  private:
    void lock();
    void take_checkpoint();
    void compare(std::string const& saved_config);
    /// For rows after `last_step`, cutting those that are there.
    void open_files(std::int64_t last_step);

    Config config_;
    std::filesystem::path path_;
    std::optional<FileLock> lock_;
    std::optional<Checkpoint> checkpoint_;
    std::vector<std::string> notes_;
    std::optional<MetricsFile> metrics_, samples_;
    std::optional<TensorBoardFile> tensorboard_;
    int ranks_ = 1;
};

}  // namespace plait::tools
