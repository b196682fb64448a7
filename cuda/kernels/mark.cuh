#pragma once

#include "cuda/device/block.cuh"

namespace plait::cuda {

/// Writes a word that the host reads while the stream goes on: how far it has come.
struct Mark {
    static constexpr char const* name = "mark";
    static constexpr int threads = 32;
    using Shared = NoShared;

    std::uint32_t* to;
    std::uint32_t value;

    std::int64_t blocks() const { return 1; }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        if (block.thread() == 0) *static_cast<std::uint32_t volatile*>(to) = value;
    }
};

}  // namespace plait::cuda
