#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

#include <cfloat>

namespace plait::cuda {

/// Softmax-cross-entropy of rows and, where `dnll` is given, its gradient in the logits' place: CrossEntropy
/// and CrossEntropyGradient of ops/loss.hpp. A row is read twice, the second time out of the L2 cache, and
/// written once. A target beyond the classes raises *fault to 1 + its row and counts as ignored.
template <class T>
struct CrossEntropy {
    static constexpr char const* name = "cross_entropy";
    static constexpr int threads = 512, lanes = Pack<T>::lanes, warps = threads / warp_size;
    struct Shared {
        float most[warps], sum[warps];
    };

    T* logits;                    // [rows, columns]
    std::int32_t const* targets;  // [rows]; a negative one is ignored
    float const* dnll;            // [rows], or null
    float *nll, *lse;             // [rows]
    std::uint32_t* fault;
    std::int64_t rows;
    int columns, classes;  // from `classes` on columns are padding, of gradient 0

    std::int64_t blocks() const { return smaller<std::int64_t>(rows, 1 << 16); }

    /// The sum of exp(x - most), brought to a common `most`.
    struct Exponentials {
        float most, sum;
        PLAIT_DEVICE void add(float other_most, float other_sum) {
            float top = fmaxf(most, other_most);
            sum = sum * fast_exp(most - top) + other_sum * fast_exp(other_most - top);
            most = top;
        }
    };

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = columns % lanes == 0 && aligned(logits);
        for (std::int64_t row = block.index(); row < rows; row += block.blocks()) {
            T* x = logits + row * columns;
            int target = targets[row];
            if (target >= classes) {
                if (block.thread() == 0) block.atomic_max(fault, static_cast<std::uint32_t>(row + 1));
                target = -1;
            }
            float at_target = target < 0 ? 0.0f : to_float(x[target]);
            float log_sum = log_sum_exp(block, shared, x, wide);
            if (block.thread() == 0) {
                lse[row] = log_sum;
                nll[row] = target < 0 ? 0.0f : log_sum - at_target;
            }
            if (dnll) write_gradient(block, x, wide, log_sum, target, target < 0 ? 0.0f : dnll[row]);
        }
    }

  private:
    /// Of the whole row, in every thread. Its barriers also keep the logits from being overwritten too soon.
    PLAIT_DEVICE float log_sum_exp(Block const& block, Shared& shared, T const* x, bool wide) const {
        // Not -infinity, from which another one cannot be subtracted.
        Exponentials own{-FLT_MAX, 0};
        for (int i = block.thread() * lanes; i < classes; i += threads * lanes) {
            auto v = Pack<T>::load(x + i, columns - i, wide);
            float most = own.most;
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j)
                if (i + j < classes) most = fmaxf(most, v[j]);
            float sum = 0;
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j)
                if (i + j < classes) sum += fast_exp(v[j] - most);
            own = {most, own.sum * fast_exp(own.most - most) + sum};
        }
        PLAIT_UNROLL
        for (int mask = warp_size / 2; mask > 0; mask /= 2) {
            float most = block.shuffle_xor(own.most, mask), sum = block.shuffle_xor(own.sum, mask);
            own.add(most, sum);
        }
        if (block.thread() % warp_size == 0) {
            shared.most[block.thread() / warp_size] = own.most;
            shared.sum[block.thread() / warp_size] = own.sum;
        }
        block.barrier();
        own = {shared.most[0], shared.sum[0]};
        for (int w = 1; w < warps; ++w) own.add(shared.most[w], shared.sum[w]);
        block.barrier();  // before the next row overwrites these
        return own.most + logf(own.sum);
    }

    /// (exp(x - lse) - [target]) * d.
    PLAIT_DEVICE void write_gradient(Block const& block, T* x, bool wide, float log_sum, int target,
                                     float d) const {
        for (int i = block.thread() * lanes; i < columns; i += threads * lanes) {
            auto v = Pack<T>::load(x + i, columns - i, wide);
            float dx[lanes];
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) {
                float p = i + j < classes ? fast_exp(v[j] - log_sum) : 0.0f;
                dx[j] = (i + j == target ? p - 1.0f : p) * d;
            }
            Pack<T>(dx).store(x + i, columns - i, wide);
        }
    }
};

}  // namespace plait::cuda
