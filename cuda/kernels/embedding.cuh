#pragma once

#include "cuda/device/pack.cuh"

namespace plait::cuda {

/// Rows of a table, or of the block of it from row `origin` on, which gives zeros for other rows:
/// ops/embedding.hpp. A token outside the vocabulary raises *fault to 1 + its index, and gives zeros.
template <class T>
struct Embedding {
    static constexpr char const* name = "embedding";
    static constexpr int threads = 256, lanes = Pack<T>::lanes;
    using Shared = NoShared;

    std::int32_t const* tokens;  // [count]
    T const* table;              // [table_rows, dim]
    T* y;                        // [count, dim]
    std::uint32_t* fault;
    std::int64_t count, origin, table_rows, vocab;
    int dim;

    std::int64_t blocks() const {
        return smaller<std::int64_t>(pieces(count * pieces(dim, lanes), threads), 1 << 16);
    }

    PLAIT_DEVICE void operator()(Block const& block, Shared&) const {
        bool wide = dim % lanes == 0 && aligned(table, y);
        int parts = static_cast<int>(pieces(dim, lanes));
        auto step = static_cast<std::int64_t>(block.blocks()) * threads;
        for (auto i = static_cast<std::int64_t>(block.index()) * threads + block.thread(); i < count * parts;
             i += step) {
            auto at = quotient(i, parts);
            int column = static_cast<int>(i - at * parts) * lanes, left = dim - column;
            std::int64_t token = tokens[at], row = token - origin;
            if (token < 0 || token >= vocab) {
                block.atomic_max(fault, static_cast<std::uint32_t>(at + 1));
                row = -1;
            }
            bool here = row >= 0 && row < table_rows;
            auto values = Pack<T>::load(table + (here ? row * dim + column : 0), here ? left : 0, wide);
            values.store(y + at * dim + column, left, wide);
        }
    }
};

}  // namespace plait::cuda
