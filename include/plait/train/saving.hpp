#pragma once

#include "plait/io/checkpoint.hpp"
#include "plait/train/shared_state.hpp"

#include <filesystem>
#include <optional>
#include <vector>

// Checkpoints of all ranks. Present where Plait was built with nlohmann-json; not part of plait::header_only.
namespace plait {

/// Views of a state's blocks where they lie: the CPU's device memory is host memory, so a checkpoint needs no
/// copy. Whatever is not a parameter counts to the optimizer's.
std::vector<NamedArray> parameter_arrays(State const& state);
std::vector<NamedArray> optimizer_arrays(State const& state);

/// The checkpoint that rank 0 has found, on every rank: its folder, step and files. Collective.
std::optional<Checkpoint> share_checkpoint(Communicator& world, std::optional<Checkpoint> const& found);

/// Fills the blocks of every rank, which have memory, from a checkpoint of any layout. Collective; throws
/// AgreedError.
void restore_checkpoint(SharedState const& shared, Checkpoint const& checkpoint);

/// Saves a checkpoint as save_checkpoint does, every distinct block written by one of the ranks that hold it.
/// Rank 0's folder, manifest and `keep` count. Returns the checkpoint's folder on every rank. Collective;
/// where any rank fails all throw AgreedError, and what lies aside is removed.
std::filesystem::path save_checkpoint(SharedState const& shared, std::filesystem::path const& run_folder,
                                      Manifest manifest, int keep);

}  // namespace plait
