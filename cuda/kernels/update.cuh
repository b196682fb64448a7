#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

namespace plait::cuda {

/// A run of a parameter that one block updates. G: the gradient's dtype.
template <class G>
struct UpdatePart {
    float* p;  // the master weights
    G const* g;
    float *m, *v;
    Bf16* copy;  // the weights for the next step's products, or null
    int count;
    float decay;
};

/// One AdamW step over all parameters, in place: ops/update.hpp. Rate, step, clipping factor and guard are
/// read from device memory, so a captured graph serves every step.
template <class G>
struct AdamW {
    static constexpr char const* name = "adamw";
    static constexpr int threads = 256, lanes = 4;
    /// Elements of a part, but for the last one of a parameter. A multiple of 8, so that parts stay aligned.
    static constexpr int part = threads * lanes * 4;
    struct Shared {
        float correction1, correction2;
    };

    UpdatePart<G> const* parts;  // [count], a block each
    int count;
    float const* rate;
    std::int32_t const* step;   // counts from 1
    float const* scale;         // multiplies gradients; null: 1
    std::uint8_t const* guard;  // 0: everything stays as it is; null: 1
    double beta1, beta2;
    float eps;

    std::int64_t blocks() const { return count; }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        if (guard && *guard == 0) return;
        if (block.thread() == 0) {  // in f64: 1 - beta^step cancels in f32
            shared.correction1 = static_cast<float>(1 / (1 - power(beta1, *step)));
            shared.correction2 = static_cast<float>(1 / (1 - power(beta2, *step)));
        }
        block.barrier();
        float c1 = shared.correction1, c2 = shared.correction2;
        float factor = scale ? *scale : 1.0f, r = *rate;
        auto b1 = static_cast<float>(beta1), b2 = static_cast<float>(beta2);
        auto rest1 = static_cast<float>(1 - beta1), rest2 = static_cast<float>(1 - beta2);
        auto one = parts[block.index()];
        bool wide = aligned(one.p, one.g, one.m, one.v, one.copy);
        for (int i = block.thread() * lanes; i < one.count; i += threads * lanes) {
            int left = one.count - i;
            auto p = Pack<float>::load(one.p + i, left, wide), m = Pack<float>::load(one.m + i, left, wide),
                 v = Pack<float>::load(one.v + i, left, wide);
            auto g = Pack<G, lanes>::load(one.g + i, left, wide);
            float to_p[lanes], to_m[lanes], to_v[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) {
                float d = g[j] * factor;
                to_m[j] = b1 * m[j] + rest1 * d;
                to_v[j] = b2 * v[j] + rest2 * (d * d);
                to_p[j] = p[j] - r * (to_m[j] * c1 / (sqrtf(to_v[j] * c2) + eps) + one.decay * p[j]);
            }
            Pack<float>(to_p).store(one.p + i, left, wide);
            Pack<float>(to_m).store(one.m + i, left, wide);
            Pack<float>(to_v).store(one.v + i, left, wide);
            if (one.copy) Pack<Bf16, lanes>(to_p).store(one.copy + i, left, wide);
        }
    }
};

}  // namespace plait::cuda
