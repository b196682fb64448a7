#pragma once

#include "cuda/kernels/loss.cuh"

namespace plait::cuda {

/// What each of `parts` equal runs of the classes says of the loss: LinearLossBlocks of ops/loss.hpp.
template <class T>
struct LinearLossParts {
    static constexpr char const* name = "linear_loss_parts";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Sum = LogSumExp<T, threads>;
    struct Shared {
        typename Sum::Shared of[2];  // of runs in turn
    };

    T const* logits;              // [rows, stride]
    std::int32_t const* targets;  // [rows]
    float *lse, *at_target;       // [rows, parts]
    std::uint32_t* fault;
    std::int64_t rows, first, parts;
    int stride, each;  // classes of a part
    LossClasses classes;

    std::int64_t blocks() const { return smaller<std::int64_t>(rows * parts, 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = stride % lanes == 0 && each % lanes == 0 && aligned(logits), odd = false;
        for (std::int64_t i = block.index(); i < rows * parts; i += block.blocks(), odd = !odd) {
            auto row = i / parts, begin = i % parts * each;
            auto start = static_cast<int>(smaller<std::int64_t>(begin, classes.counted));
            int n = smaller(each, classes.counted - start);
            T const* x = logits + row * stride + start;
            Sum sum;
            sum.take(x, block.thread() * lanes, n, wide);
            float log_sum = sum.of_block(block, shared.of[odd]);
            if (block.thread() == 0) {
                std::int32_t target = targets[row];
                classes.check(block, target, first + row, fault);
                int at = classes.local(target) - start;
                lse[i] = log_sum;
                at_target[i] = at >= 0 && at < n ? to_float(x[at]) : -INFINITY;
            }
        }
    }
};

}  // namespace plait::cuda
