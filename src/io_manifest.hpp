#pragma once

#include "plait/io/checkpoint.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace plait::detail {

inline constexpr std::string_view weights_kind = "weights", optimizer_kind = "optimizer";

/// "weights.safetensors", or "weights-00002-of-00008.safetensors" for index 1 of 8.
std::string part_name(std::string_view kind, CheckpointPart part);
/// The listed names of all parts of a kind, in order. Throws Error beginning with `where` that names the part
/// that is not listed, or two that do not belong together.
std::vector<std::string> part_names(std::string const& where, Manifest const& manifest,
                                    std::string_view kind);

/// JSON with its own hash.
std::string manifest_text(Manifest const& manifest);
/// Throws Error of one line with the path.
Manifest read_manifest(std::filesystem::path const& path);

}  // namespace plait::detail
