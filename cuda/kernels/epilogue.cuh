#pragma once

#include "cuda/device/math.cuh"
#include "cuda/device/pack.cuh"

namespace plait::cuda {

// What a product's library does beside the product where it can. Here one element a thread, for the odd
// shapes where it cannot. Matrices are [batch, rows, columns], of rows of `stride` elements.

/// y = bias, or y + bias with `add`, in each row.
template <class T>
struct BiasRows {
    static constexpr char const* name = "bias_rows";
    static constexpr int threads = 256;
    using Shared = NoShared;

    T* y;
    T const* bias;  // [columns]
    std::int64_t batch, rows, columns, stride, batch_stride;
    bool add;

    std::int64_t blocks() const {
        return smaller<std::int64_t>(pieces(batch * rows * columns, threads), 1 << 16);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        auto step = static_cast<std::int64_t>(block.blocks()) * threads;
        for (auto i = static_cast<std::int64_t>(block.index()) * threads + block.thread();
             i < batch * rows * columns; i += step) {
            auto row = i / columns, column = i % columns;
            auto at = row / rows * batch_stride + row % rows * stride + column;
            float value[4] = {to_float(bias[column]) + (add ? to_float(y[at]) : 0.0f)};
            Pack<T, 4>(value).store(y + at, 1, false);
        }
    }
};

/// y = gelu(x).
template <class T>
struct GeluRows {
    static constexpr char const* name = "gelu_rows";
    static constexpr int threads = 256;
    using Shared = NoShared;

    T const* x;
    T* y;
    std::int64_t batch, rows, columns, stride, batch_stride;

    std::int64_t blocks() const {
        return smaller<std::int64_t>(pieces(batch * rows * columns, threads), 1 << 16);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        auto step = static_cast<std::int64_t>(block.blocks()) * threads;
        for (auto i = static_cast<std::int64_t>(block.index()) * threads + block.thread();
             i < batch * rows * columns; i += step) {
            auto row = i / columns;
            auto at = row / rows * batch_stride + row % rows * stride + i % columns;
            float value[4] = {gelu(to_float(x[at]))};
            Pack<T, 4>(value).store(y + at, 1, false);
        }
    }
};

}  // namespace plait::cuda
