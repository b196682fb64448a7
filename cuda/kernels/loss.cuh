#pragma once

#include "cuda/kernels/log_sum_exp.cuh"

namespace plait::cuda {

/// A row of a loss's gradient, by the threads of a block. `to` may be `from`.
template <class T, int threads>
PLAIT_DEVICE void loss_gradient_row(Block const& block, T const* from, T* to, int columns, int classes,
                                    bool wide, float lse, int target, float d) {
    constexpr int lanes = Pack<T>::lanes;
    for (int i = block.thread() * lanes; i < columns; i += threads * lanes) {
        auto v = Pack<T>::load(from + i, columns - i, wide);
        float dx[lanes];
        loss_gradient(v, i, classes, target, lse, d, dx);
        Pack<T>(dx).store(to + i, columns - i, wide);
    }
}

/// Softmax-cross-entropy of rows and, where `dnll` is given, its gradient in the logits' place: CrossEntropy
/// and CrossEntropyGradient of ops/loss.hpp. A row is read twice and written once. Blocks are as
/// large as can be, since the fewer rows are under way, the more second reads the L2 cache serves: two for
/// each multiprocessor, of 50 thousand classes in bf16, are some 30 MB. A target beyond the classes raises
/// *fault to 1 + its row and counts as ignored.
template <class T>
struct CrossEntropy {
    static constexpr char const* name = "cross_entropy";
    static constexpr int threads = 1024, blocks_per_sm = 2, lanes = Pack<T>::lanes;
    using Row = LogSumExp<T, threads>;
    using Shared = typename Row::Shared;

    T* logits;                    // [rows, columns]
    std::int32_t const* targets;  // [rows]; a negative one is ignored
    float const* dnll;            // [rows], or null
    float *nll, *lse;             // [rows]
    std::uint32_t* fault;
    std::int64_t rows;
    int columns, classes;  // from `classes` on columns are padding, of gradient 0

    std::int64_t blocks() const { return smaller<std::int64_t>(rows, 1 << 16); }

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
            // Its barriers also keep the logits from being overwritten too soon.
            float log_sum = Row::of(block, shared, x, classes, wide);
            if (block.thread() == 0) {
                lse[row] = log_sum;
                nll[row] = target < 0 ? 0.0f : log_sum - at_target;
            }
            if (dnll)
                loss_gradient_row<T, threads>(block, x, x, columns, classes, wide, log_sum, target,
                                              target < 0 ? 0.0f : dnll[row]);
        }
    }
};

/// The gradient alone, from the lse of the whole row, of a block of the classes: CrossEntropyGradient of
/// ops/loss.hpp. A target from `all` on raises *fault to 1 + its row and counts as ignored.
template <class T>
struct CrossEntropyGradient {
    static constexpr char const* name = "cross_entropy_gradient";
    static constexpr int threads = 512, lanes = Pack<T>::lanes;
    using Shared = NoShared;

    T const* logits;  // [rows, columns], of the classes from `origin` on
    std::int32_t const* targets;
    float const *lse, *dnll;  // [rows]
    T* dx;                    // like logits; may be they
    std::uint32_t* fault;
    std::int64_t rows, origin, all;
    int columns, classes;  // from `classes` on columns are padding, of gradient 0

    std::int64_t blocks() const { return smaller<std::int64_t>(rows, 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = columns % lanes == 0 && aligned(logits, dx);
        for (std::int64_t row = block.index(); row < rows; row += block.blocks()) {
            std::int64_t target = targets[row], at = target - origin;
            if (target >= all) {
                if (block.thread() == 0) block.atomic_max(fault, static_cast<std::uint32_t>(row + 1));
                target = -1;
            }
            bool here = target >= 0 && at >= 0 && at < columns;
            loss_gradient_row<T, threads>(block, logits + row * columns, dx + row * columns, columns, classes,
                                          wide, lse[row], here ? static_cast<int>(at) : -1,
                                          target < 0 ? 0.0f : dnll[row]);
        }
    }
};

/// y[row] = x[row, index[row]], or 0 where a block of the columns lacks it: Pick of ops/loss.hpp. An index
/// from `all` on raises *fault to 1 + its row.
template <class T>
struct Pick {
    static constexpr char const* name = "pick";
    static constexpr int threads = 256;
    using Shared = NoShared;

    T const* x;                 // [rows, columns], of the columns from `origin` on
    std::int32_t const* index;  // [rows]
    T* y;                       // [rows]
    std::uint32_t* fault;
    std::int64_t rows, columns, origin, all;

    std::int64_t blocks() const { return smaller<std::int64_t>(pieces(rows, threads), 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        auto step = static_cast<std::int64_t>(block.blocks()) * threads;
        for (auto row = static_cast<std::int64_t>(block.index()) * threads + block.thread(); row < rows;
             row += step) {
            std::int64_t chosen = index[row], at = chosen - origin;
            if (chosen >= all) block.atomic_max(fault, static_cast<std::uint32_t>(row + 1));
            bool here = chosen >= 0 && chosen < all && at >= 0 && at < columns;
            y[row] = here ? x[row * columns + at] : T{};
        }
    }
};

}  // namespace plait::cuda
