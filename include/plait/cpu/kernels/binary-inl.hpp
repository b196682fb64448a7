#pragma once

#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/reduce.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// How `N` inputs lie under an output's elements: sizes and strides, neighbouring dims merged where all
/// inputs allow. The last dim's strides are 1, or 0 where the input repeats one element.
template <int N>
struct Walk {
    int rank = 0;
    std::int64_t size[Shape::max_rank] = {1}, stride[Shape::max_rank][N] = {};

    void add(std::int64_t n, std::int64_t const (&s)[N]) {
        if (n == 1) return;
        bool merges = rank > 0;
        for (int k = 0; k < N; ++k) merges = merges && stride[rank - 1][k] == s[k] * n;
        if (!merges) {
            size[rank] = n;
            ++rank;
        } else {
            size[rank - 1] *= n;
        }
        for (int k = 0; k < N; ++k) stride[rank - 1][k] = s[k];
    }

    /// Calls f(i, n, offsets) for the runs that make up the output's elements [begin, end).
    template <class F>
    void runs(std::int64_t begin, std::int64_t end, F&& f) const {
        int last = rank > 0 ? rank - 1 : 0;
        for (std::int64_t i = begin; i < end;) {
            std::int64_t column = i % size[last], row = i / size[last];
            std::int64_t n = smaller(size[last] - column, end - i);
            std::int64_t offset[N];
            for (int k = 0; k < N; ++k) offset[k] = column * stride[last][k];
            for (int d = last - 1; d >= 0; --d) {
                for (int k = 0; k < N; ++k) offset[k] += row % size[d] * stride[d][k];
                row /= size[d];
            }
            f(i, n, offset);
            i += n;
        }
    }
    bool repeats(int k) const { return rank == 0 || stride[rank - 1][k] == 0; }
};

/// `n` elements of an operand of a run; one that repeats is written out once a run.
template <class C>
struct RunReader {
    RunReader(Operand operand, bool repeated) : x(operand), repeats(repeated) {}

    void start(std::int64_t offset, std::int64_t n) {
        at = offset;
        if (!repeats) return;
        C value;
        C one = *read<C>(x, offset, 1, &value);
        for (std::int64_t j = 0; j < smaller(n, block_elements); ++j) scratch[j] = one;
    }
    C const* block(std::int64_t j, std::int64_t n) {
        return repeats ? scratch : read<C>(x, at + j, n, scratch);
    }

  private:
    Operand x;
    bool repeats;
    std::int64_t at = 0;
    C scratch[block_elements];
};

template <class C, class F>
void map_broadcast(KernelCall const& call, Walk<2> const& walk, F f) {
    Buffer const& y = call.out.data()[0];
    run_tiles(call, pieces(y.meta.elements(), tile_elements), [&](std::int64_t t, int) {
        RunReader<C> a(input(call, 0), walk.repeats(0)), b(input(call, 1), walk.repeats(1));
        C scratch[block_elements];
        std::int64_t end = smaller(y.meta.elements(), (t + 1) * tile_elements);
        walk.runs(t * tile_elements, end, [&](std::int64_t i, std::int64_t m, auto const& offset) {
            a.start(offset[0], m);
            b.start(offset[1], m);
            for (std::int64_t j = 0; j < m; j += block_elements) {
                std::int64_t n = smaller(block_elements, m - j);
                C const *p = a.block(j, n), *q = b.block(j, n);
                C* r = target<C>(operand(y), i + j, scratch);
                for_lanes<C>(
                    n, [&](std::int64_t l, auto count) __attribute__((always_inline)) {
                        store<C>(r + l, f(load<C>(p + l, count), load<C>(q + l, count)), count);
                    });
                write<C>(operand(y), i + j, r, n);
            }
        });
    });
}

/// `apply(f)` with the function of two vectors that `fn` names.
template <class C, class Apply>
void with_binary_function(KernelCall const& call, BinaryFn fn, Apply&& apply) {
    using V = Vector<C>;
#define PLAIT_VECTOR_FUNCTION(expression) \
    [=](V a, V b) __attribute__((always_inline)) { return V(expression); }
    switch (fn) {
        case BinaryFn::add:
            return apply(PLAIT_VECTOR_FUNCTION(a + b));
        case BinaryFn::subtract:
            return apply(PLAIT_VECTOR_FUNCTION(a - b));
        case BinaryFn::multiply:
            return apply(PLAIT_VECTOR_FUNCTION(a * b));
        case BinaryFn::divide:
            if constexpr (std::is_floating_point_v<C>) return apply(PLAIT_VECTOR_FUNCTION(a / b));
            else unsupported(call, call.in.data()[0].meta.dtype);
        case BinaryFn::maximum:
            return apply(PLAIT_VECTOR_FUNCTION(max(a, b)));
        case BinaryFn::minimum:
            return apply(PLAIT_VECTOR_FUNCTION(min(a, b)));
        case BinaryFn::equal:
            return apply(PLAIT_VECTOR_FUNCTION(select<V>(a == b, splat<V>(1), V{})));
        case BinaryFn::not_equal:
            return apply(PLAIT_VECTOR_FUNCTION(select<V>(a != b, splat<V>(1), V{})));
        case BinaryFn::less:
            return apply(PLAIT_VECTOR_FUNCTION(select<V>(a < b, splat<V>(1), V{})));
    }
#undef PLAIT_VECTOR_FUNCTION
}

inline void binary(KernelCall const& call) {
    Shape const &a = call.in.data()[0].meta.shape, &b = call.in.data()[1].meta.shape,
                &y = call.out.data()[0].meta.shape;
    // Strides from the last dim outwards, then the walk from the first one inwards.
    std::int64_t stride[Shape::max_rank][2], dense[2] = {1, 1};
    for (int d = y.rank() - 1; d >= 0; --d) {
        Shape const* shapes[2] = {&a, &b};
        for (int k = 0; k < 2; ++k) {
            int own = d - (y.rank() - shapes[k]->rank());
            std::int64_t size = own < 0 ? 1 : shapes[k]->begin()[own];
            stride[d][k] = size == 1 ? 0 : dense[k];
            dense[k] *= size;
        }
    }
    Walk<2> walk;
    for (int d = 0; d < y.rank(); ++d) walk.add(y.begin()[d], stride[d]);
    with_compute_type(call.in.data()[0].meta.dtype, call.in.data()[1].meta.dtype, [&](auto zero) {
        using C = decltype(zero);
        with_binary_function<C>(call, call.attributes<Binary>().fn,
                                [&](auto f) { map_broadcast<C>(call, walk, f); });
    });
}

inline void expand(KernelCall const& call) {
    auto const& dims = call.attributes<Expand>().dims;
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    Shape const& s = y.meta.shape;
    std::int64_t stride[Shape::max_rank][1], dense = 1;
    auto repeated = dims.size();
    for (int d = s.rank() - 1; d >= 0; --d) {
        bool repeats = repeated > 0 && dims.data()[repeated - 1] == d;
        if (repeats) --repeated;
        stride[d][0] = repeats ? 0 : dense;
        if (!repeats) dense *= s.begin()[d];
    }
    Walk<1> walk;
    for (int d = 0; d < s.rank(); ++d) walk.add(s.begin()[d], stride[d]);
    with_compute_type(x.meta.dtype, y.meta.dtype, [&](auto zero) {
        using C = decltype(zero);
        run_tiles(call, pieces(y.meta.elements(), tile_elements), [&](std::int64_t t, int) {
            RunReader<C> a(operand(x), walk.repeats(0));
            std::int64_t end = smaller(y.meta.elements(), (t + 1) * tile_elements);
            walk.runs(t * tile_elements, end, [&](std::int64_t i, std::int64_t m, auto const& offset) {
                a.start(offset[0], m);
                for (std::int64_t j = 0; j < m; j += block_elements) {
                    std::int64_t n = smaller(block_elements, m - j);
                    write<C>(operand(y), i + j, a.block(j, n), n);
                }
            });
        });
    });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
