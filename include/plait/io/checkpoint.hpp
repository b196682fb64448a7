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
    };

    std::int64_t step = 0;  // steps done
    std::uint64_t seed = 0;
    std::int64_t data_cursor = 0;                // the loader's next step
    std::int64_t tokens = 0;                     // seen so far
    std::map<std::string, std::string> strings;  // free: the configuration, the logical layout
    std::vector<File> files;                     // filled in by save_checkpoint
};

/// A checkpoint that verified: run/checkpoints/step-00000020 with weights.safetensors, optimizer.safetensors
/// and manifest.json.
struct Checkpoint {
    std::filesystem::path folder;
    Manifest manifest;

    SafetensorsFile weights() const { return SafetensorsFile(folder / "weights.safetensors"); }
    SafetensorsFile optimizer() const { return SafetensorsFile(folder / "optimizer.safetensors"); }
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
/// `keep` - 1 stay. One process saves into a run folder at a time. Throws Error with the path and the
/// system's reason.
std::filesystem::path save_checkpoint(std::filesystem::path const& run_folder, Manifest manifest,
                                      std::span<NamedArray const> weights,
                                      std::span<NamedArray const> optimizer, int keep = 2);

/// Looks from the highest step down for a checkpoint whose manifest parses and whose files have the sizes and
/// hashes that it lists. Reads the files of those it looks at whole. A run without checkpoints gives none,
/// and no note.
FoundCheckpoint find_checkpoint(std::filesystem::path const& run_folder);

/// The checkpoint in `folder`, verified; throws Error of one line with the file and what is wrong.
Checkpoint open_checkpoint(std::filesystem::path const& folder);

}  // namespace plait
