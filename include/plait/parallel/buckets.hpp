#pragma once

#include "plait/graph/sections.hpp"
#include "plait/parallel/mesh.hpp"

#include <functional>
#include <string_view>

namespace plait {

/// Gradients of fewer bytes than this are reduced with others of their module.
inline constexpr std::int64_t small_gradient = 64 << 10;

/// Lets reductions of small gradients share calls: those of one module, axis and kind go side by side into
/// one buffer, at most a MiB of it, once the last of them is there, or the first is read. A call costs the
/// ranks a meeting whatever its size; bytes and bits stay as they are. `stage_of` tells which modules never
/// share one.
LocalGraph share_reductions(LocalGraph local, Mesh const& mesh,
                            std::function<int(std::string_view path)> const& stage_of);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/buckets-inl.hpp"
#endif
