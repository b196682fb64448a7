#pragma once

#include "plait/cpu/kernels/attention_forward-inl.hpp"
#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/ops/cache.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// A cache [slots, length, heads, dim] and which of its rows tokens [batch, n] name.
struct CacheRows {
    std::int64_t slots, length, heads, dim, n;
    std::int32_t const *slot, *positions;

    CacheRows(Buffer const& cache, Buffer const& slot_of, Buffer const& position_of)
        : slots(cache.meta.shape.begin()[0]),
          length(cache.meta.shape.begin()[1]),
          heads(cache.meta.shape.begin()[2]),
          dim(cache.meta.shape.begin()[3]),
          n(position_of.meta.shape.begin()[1]),
          slot(slot_of.as<std::int32_t const>()),
          positions(position_of.as<std::int32_t const>()) {}

    /// The slot and position of token `i`, which may be negative; errors for those outside the cache.
    std::int64_t slot_of(KernelCall const& call, std::int64_t i) const {
        std::int64_t s = slot[i / n];
        if (s < 0 || s >= slots) outside_table(call, s, slots);
        return s;
    }
    std::int64_t position_of(KernelCall const& call, std::int64_t i) const {
        if (positions[i] >= length) outside_table(call, positions[i], length);
        return positions[i];
    }
};

inline void cache_write(KernelCall const& call) {
    Buffer const &old = call.in.data()[0], &fresh = call.in.data()[1], &y = call.out.data()[0];
    copy_bytes(call, y.data, old.data, y.meta.bytes());
    CacheRows rows(old, call.in.data()[2], call.in.data()[3]);
    std::int64_t width = rows.heads * rows.dim, tokens = call.in.data()[3].meta.elements();
    with_floating_type(call, fresh, [&](auto zero) {
        using C = decltype(zero);
        // In the order of the tokens, as the last of two counts; they are few.
        for (std::int64_t i = 0; i < tokens; ++i) {
            auto position = rows.position_of(call, i);
            if (position < 0) continue;
            auto to = (rows.slot_of(call, i) * rows.length + position) * width;
            for (std::int64_t d = 0; d < width; d += block_elements) {
                C scratch[block_elements];
                auto count = smaller(block_elements, width - d);
                write<C>(operand(y), to + d, read<C>(operand(fresh), i * width + d, count, scratch), count);
            }
        }
    });
}

/// One query of the heads that share a kv head: bound by reading the cache, so a key is read once for all of
/// them.
template <class T>
struct CachedQuery {
    using C = ComputeOf<T>;
    using V = Vector<C>;
    static constexpr std::int64_t at_once = 4;  // keys, whose sums do not wait for each other

    std::int64_t group, dim, padded;
    C *queries, *sums, *scores;

    CachedQuery(std::int64_t heads, std::int64_t d, std::int64_t length, Pieces& pieces)
        : group(heads),
          dim(d),
          padded(round_up(d, lanes<C>)),
          queries(pieces.take<C>(heads * padded)),
          sums(pieces.take<C>(heads * padded)),
          scores(pieces.take<C>(heads * length)) {}

    template <int N>
    void dots(T const* k, std::int64_t stride, std::int64_t count, std::int64_t first) {
        for (std::int64_t h = 0; h < group; ++h) {
            V sum[N] = {};
            for_lanes<C>(
                dim, [&](std::int64_t d, auto lanes_left) __attribute__((always_inline)) {
                    auto q = load<C>(static_cast<C const*>(queries) + h * padded + d);
                    for (int i = 0; i < N; ++i)
                        sum[i] = fma(q, load<C>(k + (first + i) * stride + d, lanes_left), sum[i]);
                });
            for (int i = 0; i < N; ++i)
                scores[h * count + first + i] = fold<V>(
                    sum[i], [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
        }
    }

    /// Over the first `count` rows of k and v, `stride` elements apart; the results are in `sums`.
    void run(T const* k, T const* v, std::int64_t stride, std::int64_t count) {
        std::int64_t j = 0;
        for (; j + at_once <= count; j += at_once) dots<at_once>(k, stride, count, j);
        for (; j < count; ++j) dots<1>(k, stride, count, j);
        for (std::int64_t h = 0; h < group; ++h) {
            C* line = scores + h * count;
            C most = max_lanes<C>(
                count, [&](std::int64_t i, auto n) __attribute__((always_inline)) {
                    return load<C>(static_cast<C const*>(line) + i, n);
                });
            C total = sum_lanes<C>(
                count, [&](std::int64_t i, auto n) __attribute__((always_inline)) {
                    auto e = exp(load<C>(static_cast<C const*>(line) + i, n) - most);
                    store<C>(line + i, e, n);
                    return e;
                });
            C inverse = C(1) / total;
            // Two vectors of the head at a time, over all keys.
            std::int64_t d = 0;
            for (; d + 2 * lanes<C> <= dim; d += 2 * lanes<C>) {
                V low{}, high{};
                for (std::int64_t i = 0; i < count; ++i) {
                    V p = splat<V>(line[i]);
                    low = fma(p, load<C>(v + i * stride + d), low);
                    high = fma(p, load<C>(v + i * stride + d + lanes<C>), high);
                }
                store<C>(sums + h * padded + d, inverse * low);
                store<C>(sums + h * padded + d + lanes<C>, inverse * high);
            }
            for (; d < dim; d += lanes<C>) {
                V low{};
                auto left = static_cast<int>(smaller(lanes<C>, dim - d));
                for (std::int64_t i = 0; i < count; ++i)
                    low = fma(splat<V>(line[i]), load<C>(v + i * stride + d, left), low);
                store<C>(sums + h * padded + d, inverse * low);
            }
        }
    }
};

template <class T>
inline std::int64_t cached_attention_bytes(Shape const& q, Shape const& k) {
    Pieces pieces;
    CachedQuery<T>(q.begin()[2] / k.begin()[2], q.begin()[3], k.begin()[1], pieces);
    return pieces.used;
}

template <class T>
inline void cached_attention_of(KernelCall const& call) {
    using C = ComputeOf<T>;
    Buffer const *in = call.in.data(), &y = call.out.data()[0];
    CacheRows rows(in[1], in[3], in[4]);
    auto bytes = cached_attention_bytes<T>(in[0].meta.shape, in[1].meta.shape);
    std::int64_t heads = in[0].meta.shape.begin()[2], group = heads / rows.heads, dim = rows.dim;
    std::int64_t stride = rows.heads * dim, tokens = in[4].meta.elements();
    C scale = C(1) / static_cast<C>(__builtin_sqrt(static_cast<double>(dim)));
    run_tiles(call, tokens * rows.heads, [&](std::int64_t tile, int worker) {
        auto token = tile / rows.heads, kv_head = tile % rows.heads;
        auto first = (token * heads + kv_head * group) * dim;
        auto count = rows.position_of(call, token) + 1;
        if (count <= 0) {
            std::memset(y.data + bytes_of(y.meta.dtype, first), 0,
                        static_cast<std::size_t>(bytes_of(y.meta.dtype, group * dim)));
            return;
        }
        Pieces room{call.workspace + worker * bytes};
        CachedQuery<T> query(group, dim, rows.length, room);
        for (std::int64_t h = 0; h < group; ++h) {
            C* q = query.queries + h * query.padded;
            C const* from = read<C>(operand(in[0]), first + h * dim, dim, q);
            for (std::int64_t d = 0; d < query.padded; ++d) q[d] = d < dim ? from[d] * scale : C(0);
        }
        auto at = (rows.slot_of(call, token) * rows.length * rows.heads + kv_head) * dim;
        query.run(in[1].as<T const>() + at, in[2].as<T const>() + at, stride, count);
        for (std::int64_t h = 0; h < group; ++h)
            write<C>(operand(y), first + h * dim, query.sums + h * query.padded, dim);
    });
}

inline void cached_attention(KernelCall const& call) {
    switch (call.in.data()[1].meta.dtype) {
        case DType::f32:
            return cached_attention_of<float>(call);
        case DType::bf16:
            return cached_attention_of<Bf16>(call);
        case DType::f64:
            return cached_attention_of<double>(call);
        default:
            unsupported(call, call.in.data()[1].meta.dtype);
    }
}
inline std::int64_t cached_attention_workspace(AnyOp const&, Metas const& in, Metas const&, int workers) {
    auto const &q = in.data()[0].shape, &k = in.data()[1].shape;
    switch (in.data()[1].dtype) {
        case DType::f32:
            return workers * cached_attention_bytes<float>(q, k);
        case DType::bf16:
            return workers * cached_attention_bytes<Bf16>(q, k);
        case DType::f64:
            return workers * cached_attention_bytes<double>(q, k);
        default:
            return 0;
    }
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
