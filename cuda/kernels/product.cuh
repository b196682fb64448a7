#pragma once

#include "cuda/device/pack.cuh"

namespace plait::cuda {

/// A sum of products, made in f32, rounded once to bf16: y = x, or y += x.
struct RoundSum {
    static constexpr char const* name = "round_sum";
    static constexpr int threads = 256, lanes = 8;
    using Shared = NoShared;

    float const* x;
    Bf16* y;
    std::int64_t n;
    bool accumulate;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(n, threads * lanes), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = aligned(x, y);
        auto step = static_cast<std::int64_t>(block.blocks()) * threads * lanes;
        for (auto i = (static_cast<std::int64_t>(block.index()) * threads + block.thread()) * lanes; i < n;
             i += step) {
            auto v = Pack<float, lanes>::load(x + i, n - i, wide);
            float sum[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) sum[j] = v[j];
            if (accumulate) {
                auto old = Pack<Bf16>::load(y + i, n - i, wide);
                PLAIT_UNROLL
                for (int j = 0; j < lanes; ++j) sum[j] += old[j];
            }
            Pack<Bf16>(sum).store(y + i, n - i, wide);
        }
    }
};

}  // namespace plait::cuda
