#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"
#include "plait/exec/state.hpp"
#include "plait/io/checkpoint.hpp"
#include "plait/train/metrics.hpp"

namespace plait::tools {

/// Views of a state's variables where they lie. The CPU's device memory is host memory, so a checkpoint needs
/// no copy.
std::vector<NamedArray> parameter_arrays(State const& state);
std::vector<NamedArray> optimizer_arrays(State const& state);

/// The folder of a training run: config.toml, metrics.jsonl and checkpoints/.
class RunFolder {
  public:
    /// Looks at run.out and changes nothing. Throws UsageError for a folder that holds a run unless `resume`,
    /// for one whose checkpoints are all damaged, and for a checkpoint of another model, batch or seed,
    /// naming the key.
    RunFolder(Config const& config, bool resume);

    /// Steps done by the checkpoint to go on from; 0 without one.
    std::int64_t step() const { return checkpoint_ ? checkpoint_->manifest.step : 0; }
    bool has_checkpoint() const { return checkpoint_.has_value(); }
    /// What a user should know of the resumption, a line each.
    std::vector<std::string> const& notes() const { return notes_; }
    /// What the checkpoint's manifest says of the text; empty without one.
    std::string text_fingerprint() const;

    /// Makes the folder, writes config.toml and cuts metrics after the checkpoint's step. Throws UsageError
    /// when the folder cannot be written.
    void open();
    /// Fills the state, which has memory, from the checkpoint.
    void restore(State const& state) const;

    void write_row(MetricsRow const& row) { metrics_->write(row); }
    /// Saves a checkpoint and gives its folder.
    std::filesystem::path save(State const& state, std::int64_t step, std::string const& text_fingerprint);
    /// Folder of the newest checkpoint; empty when there is none.
    std::string const& last_checkpoint() const;
    /// The command that goes on with this run.
    std::string resume_command() const;

  private:
    void take_checkpoint();
    void compare(std::string const& saved_config);

    Config config_;
    std::filesystem::path path_;
    std::optional<Checkpoint> checkpoint_;
    std::vector<std::string> notes_;
    std::optional<MetricsFile> metrics_;
    std::string last_;  // folder of the newest checkpoint
};

}  // namespace plait::tools
