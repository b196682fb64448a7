#pragma once

#include "plait/cpu/kernels/reduce-inl.hpp"
#include "plait/ops/embedding.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// The part of a table that a block holds: local row of a token, or -1 where another block has it.
struct TableRows {
    std::int64_t origin, count, vocab;

    explicit TableRows(Buffer const& table)
        : origin(table.block.origin.empty() ? 0 : table.block.origin.begin()[0]),
          count(table.meta.shape.begin()[0]),
          vocab(table.block.logical.empty() ? count : table.block.logical.begin()[0]) {}

    std::int64_t row(KernelCall const& call, std::int64_t token) const {
        if (token < 0 || token >= vocab) outside_table(call, token, vocab);
        std::int64_t local = token - origin;
        return local >= 0 && local < count ? local : -1;
    }
};

inline void embedding(KernelCall const& call) {
    auto const* tokens = call.in.data()[0].as<std::int32_t const>();
    Buffer const &table = call.in.data()[1], &y = call.out.data()[0];
    TableRows rows(table);
    std::int64_t dim = table.meta.shape.begin()[1], bytes = bytes_of(table.meta.dtype, dim);
    run_items(call, call.in.data()[0].meta.elements(), dim, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
            std::int64_t row = rows.row(call, tokens[i]);
            if (row < 0) std::memset(y.data + i * bytes, 0, static_cast<std::size_t>(bytes));
            else std::memcpy(y.data + i * bytes, table.data + row * bytes, static_cast<std::size_t>(bytes));
        }
    });
}

/// Lists each row's tokens in their order (a counting sort), then adds up row by row.
inline void embedding_gradient(KernelCall const& call) {
    auto const* tokens = call.in.data()[0].as<std::int32_t const>();
    Buffer const &dy = call.in.data()[1], &y = call.out.data()[0];
    TableRows rows(y);
    std::int64_t count = call.in.data()[0].meta.elements(), dim = y.meta.shape.begin()[1];
    auto* begins =
        reinterpret_cast<std::int64_t*>(call.workspace);  // of each row in `order`, one past the end too
    auto* order = begins + rows.count + 2;
    std::memset(begins, 0, static_cast<std::size_t>(rows.count + 2) * sizeof(std::int64_t));
    for (std::int64_t i = 0; i < count; ++i)
        if (auto row = rows.row(call, tokens[i]); row >= 0) ++begins[row + 2];
    for (std::int64_t v = 0; v < rows.count; ++v) begins[v + 2] += begins[v + 1];
    for (std::int64_t i = 0; i < count; ++i)
        if (auto row = rows.row(call, tokens[i]); row >= 0) order[begins[row + 1]++] = i;

    bool accumulate = call.accumulate & 1;
    with_floating_type(call, dy, [&](auto zero) {
        using C = decltype(zero);
        // Rows differ in their number of tokens, so runs of them are short.
        run_items(call, rows.count, 4 * dim, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t v = begin; v < end; ++v) {
                // A total never holds -0, so there adding the zeros of a row without tokens changes nothing.
                if (accumulate && begins[v] == begins[v + 1]) continue;
                for (std::int64_t d = 0; d < dim; d += block_elements) {
                    std::int64_t n = smaller(block_elements, dim - d);
                    C acc[block_elements];
                    for (std::int64_t j = 0; j < n; ++j) acc[j] = C(0);
                    for (std::int64_t k = begins[v]; k < begins[v + 1]; ++k)
                        fold_rows<C>(acc, operand(dy), order[k] * dim + d, 1, 0, n, Plus{});
                    emit<C>(operand(y), v * dim + d, acc, n, accumulate);
                }
            }
        });
    });
}
inline std::int64_t embedding_gradient_workspace(AnyOp const&, Metas const& in, Metas const& out, int) {
    return padded((in.data()[0].elements() + out.data()[0].shape.begin()[0] + 2) * 8);
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
