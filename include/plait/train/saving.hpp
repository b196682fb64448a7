#pragma once

#include "plait/io/checkpoint.hpp"
#include "plait/train/shared_state.hpp"

#include <cstddef>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

// Checkpoints of all ranks. Present where Plait was built with nlohmann-json; not part of plait::header_only.
namespace plait {

/// Views of a state's blocks where they lie: the CPU's device memory is host memory. A checkpoint keeps what
/// is no parameter, the optimizer's state and any other, in one file.
std::vector<NamedArray> parameter_arrays(State const& state);
std::vector<NamedArray> non_parameter_arrays(State const& state);

/// The checkpoint that rank 0 has found, on every rank: its folder and manifest. Collective.
std::optional<Checkpoint> share_checkpoint(Communicator& world, std::optional<Checkpoint> const& found);

/// Fills the blocks of every rank, which have memory, from a checkpoint of any layout. Collective; throws
/// AgreedError.
void restore_checkpoint(SharedState const& shared, Checkpoint const& checkpoint);

/// How a save ended, the same on every rank.
struct SaveOutcome {
    std::int64_t step = 0;
    std::string folder;  // of the checkpoint; empty where the save failed
    std::string error;   // why it failed
};

/// Saves checkpoints of all ranks while they train on: a thread of each rank writes the blocks that it writes
/// of every distinct one, and when all have, a thread of rank 0 puts the checkpoint in its place. One save is
/// under way at a time. All functions but `busy` and `bytes` are collective.
class CheckpointSaver {
  public:
    enum class From {
        memory,    // writes from the state itself, which must not change before the save has ended; the
                   // host's copy, taken at the first save, where the state is not the host's
        snapshot,  // copies first, into memory that is taken here, once
    };
    /// Rank 0's folder counts. `shared` must outlive the saver.
    CheckpointSaver(SharedState const& shared, std::filesystem::path const& run_folder, From from);
    ~CheckpointSaver();
    CheckpointSaver(CheckpointSaver const&) = delete;
    CheckpointSaver& operator=(CheckpointSaver const&) = delete;

    /// Of the snapshot.
    std::int64_t bytes() const { return bytes_; }

    /// Begins a save as save_checkpoint does; returns when the state may change. No save may be under way.
    /// Rank 0's manifest and `keep` count. Throws AgreedError where there is no place for it.
    void start(Manifest manifest, int keep);
    /// The same from the state itself: it must not change before `wait`.
    void start_from_memory(Manifest manifest, int keep);
    /// Whether a save has begun that has not ended.
    bool under_way() const { return stage_ != Stage::idle; }
    /// Whether this rank is at work on it. Cheap; not collective.
    bool busy() const;
    /// To be called when no rank is busy and a save is under way: takes it one stage further. Gives how it
    /// ended, if it did. What is written of a failed save is removed.
    std::optional<SaveOutcome> advance();
    /// Waits for the save that is under way, if any.
    std::optional<SaveOutcome> wait();

  private:
    enum class Stage { idle, parts, finishing };

    void begin(Manifest manifest, int keep, bool copy);
    void take_snapshot_memory();
    void copy_blocks();
    bool first() const { return shared_.world().rank() == 0; }

    SharedState const& shared_;
    std::string run_folder_, aside_;
    std::unique_ptr<std::byte[]> snapshot_;
    std::int64_t bytes_ = 0;
    std::vector<NamedArray> weights_, optimizer_;  // what this rank writes of the save under way
    Manifest manifest_;
    int keep_ = 1;
    Stage stage_ = Stage::idle;
    std::future<std::string> work_;
};

/// Saves a checkpoint as save_checkpoint of one process does, every distinct block written by one of the
/// ranks that hold it. Rank 0's folder, manifest and `keep` count. Returns the checkpoint's folder on every
/// rank. Collective; where any rank fails, or a weight is not finite, all throw AgreedError, and what lies
/// aside is removed.
std::filesystem::path save_checkpoint(SharedState const& shared, std::filesystem::path const& run_folder,
                                      Manifest manifest, int keep);

}  // namespace plait
