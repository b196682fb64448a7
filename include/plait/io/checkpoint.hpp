#pragma once

#include "plait/io/safetensors.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace plait {

/// What a checkpoint says of itself besides its arrays.
struct Manifest {
    static constexpr int format = 1;

    struct File {
        std::string name;
        std::int64_t bytes = 0;
        std::optional<std::string> xxh64;  // 16 hex digits; absent when xxHash was not built in
        /// The hash of each tensor's bytes, to tell which one is damaged; older checkpoints have none.
        std::map<std::string, std::string> tensors{};
    };

    std::int64_t step = 0;  // steps done
    std::uint64_t seed = 0;
    std::int64_t data_cursor = 0;                // the loader's next step
    std::int64_t tokens = 0;                     // seen so far
    std::map<std::string, std::string> strings;  // free: the configuration, the logical layout
    std::vector<File> files;                     // of every part; save_checkpoint fills it in
};

/// A checkpoint that verified: run/checkpoints/step-00000020 with weights.safetensors, optimizer.safetensors
/// and manifest.json. Many writers leave parts, weights-00001-of-00008.safetensors and so on; what lies in
/// which is no matter to the readers.
struct Checkpoint {
    std::filesystem::path folder;
    Manifest manifest;

    /// Fills each array's block from whatever blocks the files hold, reading only the bytes wanted. Every
    /// element wanted must be there, and names, dtypes and logical shapes the same in the checkpoint and in
    /// `arrays`, which may hold an empty block of what is not wanted; else an Error names tensor, file or
    /// folder and what is missing, and nothing has been copied.
    void copy_weights_to(std::span<NamedArray const> arrays) const;
    void copy_optimizer_to(std::span<NamedArray const> arrays) const;
};

/// The newest checkpoint of a run that verifies, if any, and a line for each newer one that was skipped and
/// why.
struct FoundCheckpoint {
    std::optional<Checkpoint> checkpoint;
    std::vector<std::string> notes;
};

/// Saves run_folder/checkpoints/step-N for N = manifest.step and returns that folder. Everything is written
/// aside, synced, and renamed, so an interrupted save harms nothing saved before; what it leaves is removed
/// by the next save. Then the text file `latest` names the folder, and of the older checkpoints the newest
/// `keep` - 1 stay. One save into a run folder at a time. Throws Error with the path and the system's reason.
std::filesystem::path save_checkpoint(std::filesystem::path const& run_folder, Manifest manifest,
                                      std::span<NamedArray const> weights,
                                      std::span<NamedArray const> optimizer, int keep = 2);

/// One writer of a checkpoint among `count`, counted from 0; at most 99,999.
struct CheckpointPart {
    int index = 0, count = 1;
};

// The same by many writers: one process begins, all write their parts, one finishes once all have. Who waits
// for whom is up to them.

/// One process: removes what an interrupted save left and makes the folder aside, which it returns.
std::filesystem::path begin_checkpoint(std::filesystem::path const& run_folder, std::int64_t step);

/// Every writer: its blocks, at most one of each tensor, in files of its own, synced. Together the parts hold
/// every tensor whole; a block may be in several. Returns the manifest's lines for them.
std::vector<Manifest::File> write_checkpoint_part(std::filesystem::path const& aside, std::int64_t step,
                                                  CheckpointPart part, std::span<NamedArray const> weights,
                                                  std::span<NamedArray const> optimizer);

/// One process, when all parts are written: the manifest, which lists the files of every part, the rename,
/// `latest` and pruning. Returns the checkpoint's folder. Throws Error naming a part that is not listed or
/// not there, and then nothing saved before has changed.
std::filesystem::path finish_checkpoint(std::filesystem::path const& run_folder,
                                        std::filesystem::path const& aside, Manifest manifest, int keep = 2);

/// One process, after a failure anywhere: removes what lies aside.
void abandon_checkpoint(std::filesystem::path const& run_folder) noexcept;

/// Lets the text file `latest` name this checkpoint, one of a run's. A save that was killed after its rename
/// leaves it naming an older one.
void point_latest(Checkpoint const& checkpoint);

/// Looks from the highest step down for a checkpoint whose manifest parses and whose files have the sizes and
/// hashes that it lists. Reads the files of those it looks at whole; a damaged one is named with its tensor.
/// A run without checkpoints gives none, and no note.
FoundCheckpoint find_checkpoint(std::filesystem::path const& run_folder);

/// The checkpoint in `folder`, verified; throws Error of one line with the file and what is wrong.
Checkpoint open_checkpoint(std::filesystem::path const& folder);

}  // namespace plait
