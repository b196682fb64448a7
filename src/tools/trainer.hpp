#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "corpus.hpp"
#include "model.hpp"
#include "plait/train/loss_watch.hpp"
#include "plait/train/progress.hpp"
#include "plait/train/recording_files.hpp"
#include "plait/train/saving.hpp"
#include "plait/train/signals.hpp"
#include "run_folder.hpp"
#include "samples.hpp"
#include "tracer.hpp"

namespace plait::tools {

/// What the ranks of one process share.
class Process {
  public:
    /// The text and its fingerprint, read by the first rank that asks. Throws UsageError as load_corpus does.
    Corpus const& corpus(Config const& config);
    std::string const& text() const { return text_; }
    /// The signals, caught from the first call on.
    StopSignals const& signals();

  private:
    std::mutex mutex_;
    std::optional<Corpus> corpus_;
    std::string text_;
    std::optional<StopSignals> signals_;
};

/// One rank of a training run, from its first step to its last. All ranks make the same calls.
class Trainer {
  public:
    /// `folder` is null on all ranks but the first; `checkpoint` is what it found, on every rank.
    Trainer(Config const& config, Process& process, Programs& programs, Communicator& world,
            RunFolder* folder, std::optional<Checkpoint> const& checkpoint);

    /// Records every step: on all ranks, the first one gives the writer.
    void record(RecordingWriter* writer, bool values) { recording_ = {true, values, writer}; }

    /// Traces some steps: on all ranks, the first one gives the file.
    void trace(TraceRequest request) { trace_ = std::move(request); }

    /// Looks for the op that makes a NaN, which is slow.
    void check_values() { programs_.train.check_values(true); }

    /// Draws the samples that run.sample_every asks for: on all ranks, the first one gives what draws them.
    void draw_with(Sampler* sampler) { sampler_ = sampler; }

    /// Trains up to run.steps or a signal on any rank. What every rank finds alike, such as a loss that is
    /// not finite, is an AgreedError.
    void run();

  private:
    bool first() const { return folder_ != nullptr; }
    void note(std::string const& line);
    void note_trace(std::optional<std::string> const& line);
    void prepare();
    /// Whether a signal has come to any rank.
    void look_for_signals();
    void fill(Loader const& loader, std::int64_t step);
    /// The row with the validation loss, the mean over the first batches of the fixed order.
    MetricsRow validated(MetricsRow row);
    void step();
    /// Skips a step whose loss is a spike or not finite, which has stored nothing, or goes back to the last
    /// checkpoint, or throws AgreedError; all ranks do the same, as they share the loss.
    void meet_bad_step(float loss, float norm);
    /// Gathers the weights on the first rank, which writes what the model says now.
    void draw_samples();
    /// False where there is no checkpoint to go back to. The data goes on after the bad batches.
    bool roll_back(std::string const& why);
    /// Goes on from a checkpoint, once its values are restored.
    void take_up(Manifest const& manifest);
    /// Of a checkpoint of now.
    Manifest manifest() const;
    /// A row that cannot be written waits in memory.
    void write_row(MetricsRow const& row);
    void finish(double seconds);
    std::string last_checkpoint() const { return last_.empty() ? "not there yet" : last_; }
    /// Begins a save, once the one before has ended; training goes on meanwhile, and when it fails too.
    void save();
    /// The save at the end of the run. Weights that are not finite, or that differ where ranks should hold
    /// the same, are never saved.
    void save_last();
    /// Takes note of a save that has ended.
    void take(std::optional<SaveOutcome> const& outcome);

    Config const& config_;
    Process& process_;
    Programs& programs_;
    Mesh const& mesh_;
    Communicator& world_;
    RunFolder* folder_;
    std::optional<Checkpoint> const& checkpoint_;
    SharedState shared_;
    Corpus const& corpus_;
    Loader loader_;
    std::optional<Loader> validation_;
    std::pair<std::int64_t, std::int64_t> rows_;  // of the global batch, this rank's
    std::map<std::string, Array> batch_;
    std::optional<CheckpointSaver> saver_;
    std::optional<Progress> progress_;
    Sampler* sampler_ = nullptr;
    std::int64_t done_ = 0;                        // steps
    std::int64_t shift_ = 0;                       // batches that rollbacks left out before the next step
    std::int64_t bad_in_row_ = 0, rollbacks_ = 0;  // steps up to now; times in this run
    LossWatch losses_;
    double flops_ = 0, ceiling_ = 1;  // of a step of this rank; a second that products of its dtype reach
    std::int64_t stop_ = 0;           // the signal that some rank has got
    bool rows_wait_ = false;          // on the first rank
    std::optional<double> bits_;      // per byte, of the newest validation, where bytes are known
    std::string last_;                // folder of the newest checkpoint
    std::optional<TraceRequest> trace_;
    std::optional<Tracer> tracer_;
    struct {
        bool on = false, values = false;
        RecordingWriter* writer = nullptr;
    } recording_;
};

/// "replica=1, data=2, pipeline=1, tensor=1; zero 1; bits fast"
std::string layout_of(Config const& config, Mesh const& mesh);

}  // namespace plait::tools
