#pragma once

#include "cuda/kernels/log_sum_exp.cuh"

namespace plait::cuda {

/// Classes [origin, origin + count) of a vocabulary, of which those below `all` are no padding; they come
/// first.
struct LossClasses {
    std::int64_t origin, all;
    int count, counted;

    /// Whether a target is one of the vocabulary, which negative ones are not.
    PLAIT_DEVICE bool counts(std::int32_t target) const { return target >= 0 && target < all; }
    /// Where the target is here, or -1.
    PLAIT_DEVICE int local(std::int32_t target) const {
        auto at = target - origin;
        return counts(target) && at >= 0 && at < count ? static_cast<int>(at) : -1;
    }
    /// One beyond the vocabulary raises *fault to 1 + `token`.
    PLAIT_DEVICE void check(Block const& block, std::int32_t target, std::int64_t token,
                            std::uint32_t* fault) const {
        if (target >= all) block.atomic_max(fault, static_cast<std::uint32_t>(token + 1));
    }
};

/// Softmax-cross-entropy of rows of logits, its gradient, or both: what the losses of ops/loss.hpp ask of
/// `LossRows`.
template <class T>
struct LossCall {
    T const* logits;              // [rows, stride], of which `columns` are logits
    T* dlogits;                   // like logits, and may be they; null: no gradient
    std::int32_t const* targets;  // [rows]; a negative one is ignored
    float const* dnll;            // [rows]; not read without a gradient
    float const* lse_in;          // [rows], or null: then nll and lse are written
    float *nll, *lse;             // [rows]
    std::uint32_t* fault;
    std::int64_t rows, first;  // first: the number of row 0 among all tokens
    int stride, columns;
    LossClasses classes;
};

/// A block goes through rows. Its threads hold a row in registers from its only read, 16 bytes by 16 bytes,
/// and while they write the row's gradient they fill each pack anew with that of the block's next row, as
/// else memory would wait for the exponentials of the next one. What registers do not hold of a long row is
/// read twice. Rows of any stride and start are read twice too. The order of a sum depends on the number of
/// classes that count and on `size` alone.
template <class T, int size>
struct LossRows {
    static constexpr char const* name = "loss_rows";
    static constexpr int threads = size, blocks_per_sm = 1024 / threads;
    static constexpr int lanes = Pack<T>::lanes, packs = 8, longest = threads * lanes * packs;
    using Sum = LogSumExp<T, threads>;
    struct Shared {
        typename Sum::Shared of[2];  // of rows in turn
    };

    LossCall<T> call;

    /// Several rows each, and enough blocks to keep any GPU busy to the end.
    std::int64_t blocks() const { return smaller<std::int64_t>(call.rows, (1 << 20) / threads); }

    PLAIT_DEVICE void operator()(Block const& block, Shared& shared) const {
        if (call.stride % lanes == 0 && aligned(call.logits, call.dlogits)) go<true>(block, shared);
        else go<false>(block, shared);
    }

  private:
    /// With `wide` rows are whole packs of 16 bytes: there is room behind `columns`.
    template <bool wide>
    PLAIT_DEVICE void go(Block const& block, Shared& shared) const {
        constexpr int held = wide ? packs : 0;
        int const own = block.thread() * lanes, counted = call.classes.counted;
        std::int64_t row = block.index();
        Pack<T> pack[packs];
        PLAIT_UNROLL
        for (int k = 0; k < held; ++k)
            if (int i = own + k * threads * lanes; i < call.columns && row < call.rows)
                pack[k] = Pack<T>::load(call.logits + row * call.stride + i, lanes, true);
        for (bool odd = false; row < call.rows; odd = !odd) {
            T const* x = call.logits + row * call.stride;
            // The block's next row, of which nothing is read where there is none.
            auto const after = row + block.blocks();
            T const* ahead = call.logits + after * call.stride;
            int const end = after < call.rows ? call.columns : 0;

            // On their way while exponentials are added up.
            std::int32_t const target = call.targets[row];
            float d = call.dlogits ? call.dnll[row] : 0.0f;
            float lse, at_target = 0;
            if (call.lse_in) {
                lse = call.lse_in[row];
            } else {
                // Read before others write the gradient: the sum has a barrier.
                if (block.thread() == 0)
                    if (int at = call.classes.local(target); at >= 0) at_target = to_float(x[at]);
                Sum sum;
                PLAIT_UNROLL
                for (int k = 0; k < held; ++k) {
                    int i = own + k * threads * lanes;
                    if (i < counted) sum.take(limited(pack[k], counted - i));
                    if (!call.dlogits && i < end) pack[k] = Pack<T>::load(ahead + i, lanes, true);
                    pack[k].forget();
                }
                sum.take(x, own + held * threads * lanes, counted, wide);
                lse = sum.of_block(block, shared.of[odd]);
            }
            int const at = call.classes.local(target);
            if (block.thread() == 0) {
                call.classes.check(block, target, call.first + row, call.fault);
                if (!call.lse_in) call.lse[row] = lse, call.nll[row] = at < 0 ? 0.0f : lse - at_target;
            }
            if (call.dlogits) {
                T* dx = call.dlogits + row * call.stride;
                if (!call.classes.counts(target)) d = 0;
                PLAIT_UNROLL
                for (int k = 0; k < held; ++k) {
                    int i = own + k * threads * lanes;
                    if (i < call.columns) gradient(pack[k], i, at, lse, d).store(dx + i, lanes, true);
                    if (i < end) pack[k] = Pack<T>::load(ahead + i, lanes, true);
                }
                for (int i = own + held * threads * lanes; i < call.columns; i += threads * lanes) {
                    auto v = Pack<T>::load(x + i, call.columns - i, wide);
                    gradient(v, i, at, lse, d).store(dx + i, call.columns - i, wide);
                }
            }
            row = after;
        }
    }

    /// (exp(x - lse) - [column is the target]) * d of columns from i on, 0 for padding.
    PLAIT_DEVICE Pack<T> gradient(Pack<T> const& logits, int i, int at, float lse, float d) const {
        float dx[lanes];
        if (i < call.classes.counted) {
            auto v = limited(logits, call.classes.counted - i);
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) dx[j] = fast_exp(v[j] - lse);
            if (i <= at && at - i < lanes) PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j)
                if (i + j == at) dx[j] -= 1.0f;
        } else {
            PLAIT_UNROLL
            for (int j = 0; j < lanes; ++j) dx[j] = 0.0f;
        }
        PLAIT_UNROLL
        for (int j = 0; j < lanes; ++j) dx[j] *= d;
        return Pack<T>(dx);
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
