#pragma once

#include "plait/cpu/kernels/attention_forward-inl.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

// exp(score - shift[query]) for the block [keys, queries]; with `causal`, zero where the key comes after the
// query. `first` is the first key's position less the first query's.
template <class C>
inline void block_exponentials(C* scores, C const* shift, std::int64_t keys, std::int64_t columns,
                               std::int64_t first, bool causal) {
    constexpr auto w = lanes<C>;
    for (std::int64_t j = 0; j < keys; ++j) {
        auto* line = scores + j * attention_block;
        for (std::int64_t i = 0; i < columns; i += w)
            store<C>(line + i, exp(load<C>(line + i) - load<C>(shift + i)));
        for (std::int64_t i = 0; causal && i < j + first && i < columns; ++i) line[i] = 0;
    }
}

template <class T>
struct AttentionBackward {
    using C = ComputeOf<T>;
    using V = Vector<C>;
    static constexpr auto block = attention_block;

    AttentionSizes s;
    std::int64_t padded;
    C *query, *dout, *query_t, *dout_t, *dquery, *scores, *dscores, *lse, *delta, *keys, *values, *dkeys,
        *dvalues;

    AttentionBackward(AttentionSizes const& sizes, Pieces& pieces)
        : s(sizes), padded(round_up(s.dim, lanes<C>)) {
        bool here = in_place<T>(s);
        query = here ? nullptr : pieces.take<C>(block * padded),
        dout = here ? nullptr : pieces.take<C>(block * padded);
        query_t = pieces.take<C>(block * s.dim), dout_t = pieces.take<C>(block * s.dim);
        dquery = pieces.take<C>(block * padded);
        scores = pieces.take<C>(block * block), dscores = pieces.take<C>(block * block);
        lse = pieces.take<C>(block), delta = pieces.take<C>(block);
        // Widened keys and values, and their gradients, last through all queries.
        keys = here ? nullptr : pieces.take<C>(s.keys * padded),
        values = here ? nullptr : pieces.take<C>(s.keys * padded);
        dkeys = here ? nullptr : pieces.take<C>(s.keys * padded);
        dvalues = here ? nullptr : pieces.take<C>(s.keys * padded);
    }

    struct Operands {
        T const *q, *k, *v, *out;
        C const* lse;
        T const* dout;
        T *dq, *dk, *dv;
    };

    static Strided<C const> widened(T const* from, std::int64_t row, C* to, std::int64_t to_row,
                                    std::int64_t rows, std::int64_t n) {
        return AttentionForward<T>::widened(from, row, to, to_row, rows, n);
    }
    static Strided<C> accumulator(T* to, std::int64_t row, C* scratch, std::int64_t scratch_row) {
        if constexpr (std::is_same_v<T, C>)
            if (!scratch) return {to, row, 1};
        return {scratch, scratch_row, 1};
    }

    /// All of one kv head: its query heads in order, and their blocks in order.
    void run(Operands const& x, std::int64_t b, std::int64_t kv_head) {
        auto kv = s.kv(b, kv_head, 0);
        auto k = widened(x.k + kv, s.kv_row(), keys, padded, s.keys, s.dim);
        auto v = widened(x.v + kv, s.kv_row(), values, padded, s.keys, s.dim);
        auto dk = accumulator(x.dk + kv, s.kv_row(), dkeys, padded),
             dv = accumulator(x.dv + kv, s.kv_row(), dvalues, padded);
        for (auto g : {dk, dv})
            for (std::int64_t j = 0; j < s.keys; ++j)
                for (std::int64_t d = 0; d < padded; d += lanes<C>) store<C>(g.p + j * g.row + d, V{});
        for (auto head = kv_head * s.group(); head < (kv_head + 1) * s.group(); ++head)
            for (std::int64_t first = 0; first < s.seq; first += block)
                queries(x, b, head, first, smaller(block, s.seq - first), k, v, dk, dv);
        if (dkeys) {
            store_rows<C>(dkeys, padded, x.dk + kv, s.kv_row(), s.keys, s.dim);
            store_rows<C>(dvalues, padded, x.dv + kv, s.kv_row(), s.keys, s.dim);
        }
    }

    void queries(Operands const& x, std::int64_t b, std::int64_t head, std::int64_t first, std::int64_t rows,
                 Strided<C const> k, Strided<C const> v, Strided<C> dk, Strided<C> dv) {
        auto at = s.q(b, head, first);
        auto columns = round_up(rows, lanes<C>);
        C scale = C(1) / static_cast<C>(__builtin_sqrt(static_cast<double>(s.dim)));
        auto q = widened(x.q + at, s.q_row(), query, padded, rows, s.dim);
        auto g = widened(x.dout + at, s.q_row(), dout, padded, rows, s.dim);
        transpose_rows<C>(x.q + at, s.q_row(), query_t, block, rows, s.dim, scale);
        transpose_rows<C>(x.dout + at, s.q_row(), dout_t, block, rows, s.dim, C(1));
        for (std::int64_t i = 0; i < columns; ++i) lse[i] = delta[i] = 0;
        for (std::int64_t i = 0; i < rows; ++i) {
            auto row = at + i * s.q_row();
            lse[i] = x.lse[(b * s.heads + head) * s.seq + first + i];
            delta[i] = sum_lanes<C>(
                s.dim, [&](std::int64_t d, auto count) __attribute__((always_inline)) {
                    return load<C>(x.out + row + d, count) * load<C>(x.dout + row + d, count);
                });
        }
        auto end = s.keys_until(first + rows - 1);
        for (std::int64_t j = 0; j < end; j += block) {
            auto count = smaller(block, end - j);
            Strided<C const> kb{k.p + j * k.row, k.row, 1}, vb{v.p + j * v.row, v.row, 1};
            block_product<C>(count, columns, s.dim, kb, query_t, block, scores, block, false);
            block_exponentials(scores, lse, count, columns, j - first, s.causal && j + count - 1 > first);
            block_product<C>(count, padded, rows, {scores, block, 1}, g.p, g.row, dv.p + j * dv.row, dv.row,
                             true);
            block_product<C>(count, columns, s.dim, vb, dout_t, block, dscores, block, false);
            for (std::int64_t l = 0; l < count; ++l) {
                for (std::int64_t i = 0; i < columns; i += lanes<C>) {
                    auto* ds = dscores + l * block + i;
                    store<C>(ds,
                             load<C>(scores + l * block + i) * (load<C>(ds) - load<C>(delta + i)) * scale);
                }
            }
            block_product<C>(count, padded, rows, {dscores, block, 1}, q.p, q.row, dk.p + j * dk.row, dk.row,
                             true);
            block_product<C>(rows, padded, count, {dscores, 1, block}, kb.p, kb.row, dquery, padded, j > 0);
        }
        store_rows<C>(dquery, padded, x.dq + at, s.q_row(), rows, s.dim);
    }
};

}  // namespace plait::cpu::PLAIT_CPU_TARGET
