#pragma once

#include "cuda/kernels/log_sum_exp.cuh"

namespace plait::cuda {

/// Classes [origin, origin + count) of a vocabulary, of which those below `all` are no padding; they come
/// first.
struct LossClasses {
    std::int64_t origin, all;
    int count, counted;

    /// Where the target is here, or -1. One beyond the vocabulary raises *fault to 1 + `token`.
    PLAIT_DEVICE int local(Block const& block, std::int32_t target, std::int64_t token,
                           std::uint32_t* fault) const {
        if (target >= all) {
            if (block.thread() == 0) block.atomic_max(fault, static_cast<std::uint32_t>(token + 1));
            return -1;
        }
        auto at = target - origin;
        return target >= 0 && at >= 0 && at < count ? static_cast<int>(at) : -1;
    }
};

/// Loss and gradient of rows of f32 logits, for the chunked losses of ops/loss.hpp. The gradient, of G, takes
/// the place of its row's logits, from the same byte on.
template <class G>
struct LinearLossRows {
    static constexpr char const* name = "linear_loss_rows";
    static constexpr int threads = 1024, blocks_per_sm = 2, lanes = Pack<G>::lanes;
    using Row = LogSumExp<float, threads>;
    using Shared = typename Row::Shared;

    float* logits;                // [rows, stride], of which `columns` count
    std::int32_t const* targets;  // [rows]; a negative one is ignored
    float const* lse_in;          // [rows], or null: then nll and lse are written
    float const* dnll;            // [rows], or null: no gradient
    float *nll, *lse;             // [rows]
    std::uint32_t* fault;
    std::int64_t rows, first;  // first: the number of row 0 among all tokens
    int stride, columns;
    LossClasses classes;

    std::int64_t blocks() const { return smaller<std::int64_t>(rows, 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = stride % 8 == 0 && aligned(logits);
        for (std::int64_t row = block.index(); row < rows; row += block.blocks()) {
            float* x = logits + row * stride;
            auto target = targets[row];
            int at = classes.local(block, target, first + row, fault);
            float at_target = at < 0 ? 0.0f : x[at], log_sum;
            if (lse_in) {
                log_sum = lse_in[row];
            } else {
                log_sum = Row::of(block, shared, x, classes.counted, wide);
                if (block.thread() == 0) {
                    lse[row] = log_sum;
                    nll[row] = at < 0 ? 0.0f : log_sum - at_target;
                }
            }
            bool counts = target >= 0 && target < classes.all;
            if (dnll) write_gradient(block, x, wide, log_sum, at, counts ? dnll[row] : 0.0f);
        }
    }

  private:
    /// (exp(x - lse) - [target]) * d. A block goes through its row at one pace, since a narrow gradient lies
    /// where logits were that other threads read.
    PLAIT_DEVICE void write_gradient(Block const& block, float* x, bool wide, float log_sum, int at,
                                     float d) const {
        auto* to = reinterpret_cast<G*>(x);
        for (int start = 0; start < columns; start += threads * lanes) {
            int i = start + block.thread() * lanes;
            auto v = Pack<float, lanes>::load(i < columns ? x + i : x, columns - i, wide);
            float dx[lanes];
            loss_gradient(v, i, classes.counted, at, log_sum, d, dx);
            if constexpr (sizeof(G) < sizeof(float)) block.barrier();
            if (i < columns) Pack<G>(dx).store(to + i, columns - i, wide);
        }
    }
};

/// What each of `parts` equal runs of the classes says of the loss: LinearLossBlocks of ops/loss.hpp.
struct LinearLossParts {
    static constexpr char const* name = "linear_loss_parts";
    static constexpr int threads = 256;
    using Row = LogSumExp<float, threads>;
    using Shared = Row::Shared;

    float const* logits;          // [rows, stride]
    std::int32_t const* targets;  // [rows]
    float *lse, *at_target;       // [rows, parts]
    std::uint32_t* fault;
    std::int64_t rows, first, parts;
    int stride, each;  // classes of a part
    LossClasses classes;

    std::int64_t blocks() const { return smaller<std::int64_t>(rows * parts, 1 << 16); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        bool wide = stride % 4 == 0 && each % 4 == 0 && aligned(logits);
        for (std::int64_t i = block.index(); i < rows * parts; i += block.blocks()) {
            auto row = i / parts, begin = i % parts * each;
            auto start = static_cast<int>(smaller<std::int64_t>(begin, classes.counted));
            int n = smaller(each, classes.counted - start);
            int at = classes.local(block, targets[row], first + row, fault) - start;
            float const* x = logits + row * stride + start;
            float log_sum = Row::of(block, shared, x, n, wide);
            if (block.thread() == 0) {
                lse[i] = log_sum;
                at_target[i] = at >= 0 && at < n ? x[at] : -INFINITY;
            }
        }
    }
};

}  // namespace plait::cuda
