#pragma once

#include "plait/cpu/kernels/block_product-inl.hpp"
#include "plait/cpu/kernels/blocks-inl.hpp"

// Scores are held transposed, [keys, queries] of one block: the softmax over keys then runs down whole
// vectors, and keys and values need no transpose.
namespace plait::cpu::PLAIT_CPU_TARGET {

constexpr std::int64_t attention_block = 64;  // queries, and keys, at a time

struct AttentionSizes {
    std::int64_t batch, seq, keys, heads, kv_heads, dim;
    bool causal;

    std::int64_t group() const { return heads / kv_heads; }
    std::int64_t q_row() const { return heads * dim; }
    std::int64_t kv_row() const { return kv_heads * dim; }
    std::int64_t blocks() const { return cpu::PLAIT_CPU_TARGET::pieces(seq, attention_block); }
    std::int64_t q(std::int64_t b, std::int64_t head, std::int64_t position) const {
        return ((b * seq + position) * heads + head) * dim;
    }
    std::int64_t kv(std::int64_t b, std::int64_t head, std::int64_t position) const {
        return ((b * keys + position) * kv_heads + head) * dim;
    }
    /// Keys that some query of [.., last] reads.
    std::int64_t keys_until(std::int64_t last) const { return causal ? smaller(last + 1, keys) : keys; }
};

template <class T>
using ComputeOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// Rows of whole vectors in the compute type can be read, and added to, where they lie.
template <class T>
inline bool in_place(AttentionSizes const& s) {
    return std::is_same_v<T, ComputeOf<T>> && s.dim % lanes<ComputeOf<T>> == 0;
}

template <class T>
struct AttentionForward {
    using C = ComputeOf<T>;
    using V = Vector<C>;
    static constexpr auto block = attention_block;

    AttentionSizes s;
    std::int64_t padded;
    C *query, *scores, *sum, *keys, *values, *greatest, *total, *shrink;

    AttentionForward(AttentionSizes const& sizes, Pieces& pieces)
        : s(sizes),
          padded(round_up(s.dim, lanes<C>)),
          query(pieces.take<C>(s.dim * block)),
          scores(pieces.take<C>(block * block)),
          sum(pieces.take<C>(block * padded)),
          keys(in_place<T>(s) ? nullptr : pieces.take<C>(block * padded)),
          values(in_place<T>(s) ? nullptr : pieces.take<C>(block * padded)),
          greatest(pieces.take<C>(block)),
          total(pieces.take<C>(block)),
          shrink(pieces.take<C>(block)) {}

    static Strided<C const> widened(T const* from, std::int64_t row, C* to, std::int64_t to_row,
                                    std::int64_t rows, std::int64_t n) {
        if constexpr (std::is_same_v<T, C>)
            if (!to) return {from, row, 1};
        load_rows<C>(from, row, to, to_row, rows, n);
        return {to, to_row, 1};
    }

    /// The queries [first, first + rows) of one head.
    void run(T const* q, T const* k, T const* v, T* out, C* lse, std::int64_t b, std::int64_t head,
             std::int64_t first, std::int64_t rows) {
        auto kv_head = head / s.group();
        auto columns = round_up(rows, lanes<C>);
        C scale = C(1) / static_cast<C>(__builtin_sqrt(static_cast<double>(s.dim)));
        transpose_rows<C>(q + s.q(b, head, first), s.q_row(), query, block, rows, s.dim, scale);
        constexpr C lowest = -std::numeric_limits<C>::infinity();
        for (std::int64_t i = 0; i < columns; ++i) greatest[i] = lowest, total[i] = 0;
        auto end = s.keys_until(first + rows - 1);
        for (std::int64_t j = 0; j < end; j += block) {
            auto count = smaller(block, end - j);
            auto kb = widened(k + s.kv(b, kv_head, j), s.kv_row(), keys, padded, count, s.dim);
            auto vb = widened(v + s.kv(b, kv_head, j), s.kv_row(), values, padded, count, s.dim);
            block_product<C>(count, columns, s.dim, kb, query, block, scores, block, false);
            softmax(count, columns, j - first, s.causal && j + count - 1 > first);
            if (j > 0) {
                for (std::int64_t i = 0; i < rows; ++i)
                    for (std::int64_t d = 0; d < padded; d += lanes<C>)
                        store<C>(sum + i * padded + d, shrink[i] * load<C>(sum + i * padded + d));
            }
            block_product<C>(rows, padded, count, {scores, 1, block}, vb.p, vb.row, sum, padded, j > 0);
        }
        for (std::int64_t i = 0; i < rows; ++i) {
            C inverse = C(1) / total[i];
            for (std::int64_t d = 0; d < padded; d += lanes<C>)
                store<C>(sum + i * padded + d, inverse * load<C>(sum + i * padded + d));
            lse[(b * s.heads + head) * s.seq + first + i] = static_cast<C>(
                static_cast<double>(greatest[i]) + __builtin_log(static_cast<double>(total[i])));
        }
        store_rows<C>(sum, padded, out + s.q(b, head, first), s.q_row(), rows, s.dim);
    }

    // Scores to exponentials over the running maximum, and the factor that earlier sums shrink by.
    void softmax(std::int64_t count, std::int64_t columns, std::int64_t first, bool masked) {
        for (std::int64_t j = 0; masked && j < count; ++j)
            for (std::int64_t i = 0; i < j + first && i < columns; ++i)
                scores[j * block + i] = -std::numeric_limits<C>::infinity();
        for (std::int64_t i = 0; i < columns; i += lanes<C>) {
            V before = load<C>(greatest + i), m = before;
            for (std::int64_t j = 0; j < count; ++j) m = max_number(load<C>(scores + j * block + i), m);
            V t{};
            for (std::int64_t j = 0; j < count; ++j) {
                V p = exp(load<C>(scores + j * block + i) - m);
                store<C>(scores + j * block + i, p);
                t += p;
            }
            V f = exp(before - m);
            store<C>(greatest + i, m);
            store<C>(shrink + i, f);
            store<C>(total + i, fma(load<C>(total + i), f, t));
        }
    }
};

}  // namespace plait::cpu::PLAIT_CPU_TARGET
