#pragma once

#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/ops/reduce.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// One pass of a reduction: [before, size, after] -> [before, after]. `size` is cut into chunks whose results
/// are combined in order, so the bits depend on `size` alone, and on whether the reduced dims are the last:
/// a block of the other dims has the bits that it has in the whole.
struct ReduceStep {
    std::int64_t before = 1, size = 1, after = 1;
    bool last = false;  // the reduced dims are the last ones: `size` elements lie side by side

    std::int64_t chunk() const { return last ? tile_elements : larger(64, pieces(size, 64)); }
    std::int64_t chunks() const { return larger(1, pieces(size, chunk())); }
    /// Elements of the chunks' results, where there is more than one.
    std::int64_t partials() const { return chunks() > 1 ? before * chunks() * after : 0; }
};

/// The passes of a reduction, one for each run of neighbouring reduced dims, innermost first.
struct ReducePlan {
    ReduceStep steps[Shape::max_rank];
    int count = 0;
    std::int64_t partials = 0, between = 0;  // elements: of one pass, and from pass to pass

    ReducePlan(Shape const& s, std::vector<int> const& dims) {
        auto left = dims.size();
        std::int64_t kept = 1, run = 1, before = s.elements();
        bool last = true;
        auto flush = [&] {
            if (run != 1) steps[count++] = {before, run, kept, last};
            run = 1;
        };
        for (int d = s.rank() - 1; d >= 0; --d) {
            bool reduced = left > 0 && dims.data()[left - 1] == d;
            if (reduced) --left;
            else flush(), last = false;
            before = elements(s, 0, d);
            (reduced ? run : kept) *= s.begin()[d];
        }
        flush();
        for (int i = 0; i < count; ++i) {
            partials = larger(partials, steps[i].partials());
            if (i + 1 < count) between = larger(between, steps[i].before * steps[i].after);
        }
    }
};

struct Plus {
    template <class T>
    PLAIT_SIMD T operator()(T a, T b) const {
        return a + b;
    }
    template <class C>
    static constexpr C identity = C(0);
};
struct Greater {
    template <class T>
    PLAIT_SIMD T operator()(T a, T b) const {
        return max<T>(b, a);
    }
    template <class C>
    static constexpr C identity = std::is_floating_point_v<C> ? -std::numeric_limits<C>::infinity()
                                                              : std::numeric_limits<C>::min();
};

/// Writes n results, or adds them to what is there.
template <class C>
void emit(Operand y, std::int64_t offset, C const* values, std::int64_t n, bool accumulate) {
    if (!accumulate) return write<C>(y, offset, values, n);
    C old[block_elements], sum[block_elements];
    for (std::int64_t i = 0; i < n; i += block_elements) {
        std::int64_t m = smaller(block_elements, n - i);
        C const* p = read<C>(y, offset + i, m, old);
        for_lanes<C>(m, [&](std::int64_t j, auto count) {
            store<C>(sum + j, load<C>(p + j, count) + load<C>(values + i + j, count), count);
        });
        write<C>(y, offset + i, sum, m);
    }
}

/// acc[0, n) = combine(acc, x) for `rows` rows of x in their order, `stride` apart; four at a time, so that
/// acc moves less.
template <class C, class Combine>
void fold_rows(C* acc, Operand x, std::int64_t offset, std::int64_t rows, std::int64_t stride, std::int64_t n,
               Combine combine) {
    C scratch[4][block_elements];
    std::int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        C const* p[4];
        for (int k = 0; k < 4; ++k) p[k] = read<C>(x, offset + (r + k) * stride, n, scratch[k]);
        for_lanes<C>(
            n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                auto a = load<C>(static_cast<C const*>(acc) + j, count);
                for (int k = 0; k < 4; ++k) a = combine(a, load<C>(p[k] + j, count));
                store<C>(acc + j, a, count);
            });
    }
    for (; r < rows; ++r) {
        C const* p = read<C>(x, offset + r * stride, n, scratch[0]);
        for_lanes<C>(
            n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                auto a = load<C>(static_cast<C const*>(acc) + j, count);
                store<C>(acc + j, combine(a, load<C>(p + j, count)), count);
            });
    }
}

/// The fold of x[offset, offset + n), block by block.
template <class C, class Combine>
C fold_run(Operand x, std::int64_t offset, std::int64_t n, Combine combine) {
    C scratch[block_elements], total = Combine::template identity<C>;
    for (std::int64_t i = 0; i < n; i += block_elements) {
        std::int64_t m = smaller(block_elements, n - i);
        C const* p = read<C>(x, offset + i, m, scratch);
        C part = fold_lanes<C>(
            m, Combine::template identity<C>,
            [&](std::int64_t j, auto count) __attribute__((always_inline)) { return load<C>(p + j, count); },
            combine);
        total = combine(splat<Vector<C>>(total), splat<Vector<C>>(part))[0];
    }
    return total;
}

template <class C, class Combine>
void reduce_step(KernelCall const& call, ReduceStep const& step, Operand x, Operand y, bool accumulate,
                 C* partials, Combine combine) {
    std::int64_t chunk = step.chunk(), chunks = step.chunks(), n = step.after;
    std::int64_t blocks = pieces(n, block_elements);
    auto pass = [&](Operand from, std::int64_t size, std::int64_t chunk, std::int64_t chunks, Operand to,
                    bool add) {
        std::int64_t cost = smaller(chunk, size) * smaller(n, block_elements);
        run_items(call, step.before * chunks * blocks, cost, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t item = begin; item < end; ++item) {
                std::int64_t i = item % blocks * block_elements, c = item / blocks % chunks,
                             b = item / blocks / chunks;
                std::int64_t rows = smaller(chunk, size - c * chunk), m = smaller(block_elements, n - i);
                std::int64_t offset = (b * size + c * chunk) * n + i;
                C acc[block_elements];
                if (step.last) {
                    acc[0] = fold_run<C>(from, offset, rows, combine);
                } else {
                    for (std::int64_t j = 0; j < m; ++j) acc[j] = Combine::template identity<C>;
                    fold_rows<C>(acc, from, offset, rows, n, m, combine);
                }
                emit<C>(to, (b * chunks + c) * n + i, acc, m, add);
            }
        });
    };
    if (chunks == 1) return pass(x, step.size, chunk, 1, y, accumulate);
    Operand between{reinterpret_cast<std::byte*>(partials), dtype_of<C>};
    pass(x, step.size, chunk, chunks, between, false);
    pass(between, chunks, chunks, 1, y, accumulate);
}

inline void reduce(KernelCall const& call) {
    auto const& op = call.attributes<Reduce>();
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    bool accumulate = call.accumulate & 1;
    ReducePlan plan(x.meta.shape, op.dims);
    with_compute_type(x.meta.dtype, y.meta.dtype, [&](auto zero) {
        using C = decltype(zero);
        auto* partials = reinterpret_cast<C*>(call.workspace);
        std::byte* between[2];
        between[0] = call.workspace + padded(plan.partials * 8);
        between[1] = between[0] + padded(plan.between * 8);
        auto run = [&](auto combine) {
            Operand from = operand(x);
            for (int i = 0; i < plan.count; ++i) {
                bool last = i + 1 == plan.count;
                Operand to = last ? operand(y) : Operand{between[i % 2], dtype_of<C>};
                reduce_step<C>(call, plan.steps[i], from, to, last && accumulate, partials, combine);
                from = to;
            }
        };
        if (plan.count == 0) {
            run_tiles(call, pieces(y.meta.elements(), block_elements), [&](std::int64_t t, int) {
                std::int64_t i = t * block_elements, n = smaller(block_elements, y.meta.elements() - i);
                C scratch[block_elements];
                emit<C>(operand(y), i, read<C>(operand(x), i, n, scratch), n, accumulate);
            });
        } else if (op.fn == ReduceFn::sum) {
            run(Plus{});
        } else {
            run(Greater{});
        }
    });
}
inline std::int64_t reduce_workspace(AnyOp const& op, Metas const& in, Metas const&, int) {
    ReducePlan plan(in.data()[0].shape, op.as<Reduce>()->dims);
    return padded(plan.partials * 8) + 2 * padded(plan.between * 8);
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
