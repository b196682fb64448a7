#pragma once

#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/reduce.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// The rows of [..., n] and each worker's scratch for some of them in the compute type.
template <class C>
struct Rows {
    std::int64_t count = 0, n = 0;
    std::byte* workspace = nullptr;
    int scratches = 0;

    Rows(Shape const& s, std::byte* work, int k)
        : count(elements(s, 0, s.rank() - 1)), n(s.begin()[s.rank() - 1]), workspace(work), scratches(k) {}
    C* scratch(int worker, int k) const {
        return reinterpret_cast<C*>(workspace + (worker * scratches + k) * padded(n * 8));
    }
};
/// Bytes for `k` rows a worker. Only dtypes that are not computed in themselves use them.
inline std::int64_t rows_workspace(Meta const& x, int workers, int k) {
    return workers * k * padded(x.shape.begin()[x.shape.rank() - 1] * 8);
}

template <class C>
PLAIT_SIMD C row_max(C const* x, std::int64_t n) {
    return max_lanes<C>(
        n, [&](std::int64_t i, auto count) __attribute__((always_inline)) { return load<C>(x + i, count); });
}
/// log(s), by the same code as for vectors.
template <class C>
PLAIT_SIMD C log_of(C s) {
    return log(splat<Vector<C>>(s))[0];
}

inline void softmax(KernelCall const& call) {
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        Rows<C> rows(x.meta.shape, call.workspace, 2);
        run_items(call, rows.count, rows.n, [&](std::int64_t begin, std::int64_t end, int worker) {
            for (std::int64_t r = begin; r < end; ++r) {
                C const* a = read<C>(operand(x), r * rows.n, rows.n, rows.scratch(worker, 0));
                C* b = target<C>(operand(y), r * rows.n, rows.scratch(worker, 1));
                C most = row_max(a, rows.n);
                C sum = sum_lanes<C>(
                    rows.n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                        auto e = exp(load<C>(a + i, count) - most);
                        store<C>(b + i, e, count);
                        return e;
                    });
                C scale = C(1) / sum;
                for_lanes<C>(
                    rows.n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                        store<C>(b + i, load<C>(static_cast<C const*>(b) + i, count) * scale, count);
                    });
                write<C>(operand(y), r * rows.n, b, rows.n);
            }
        });
    });
}
inline std::int64_t softmax_workspace(AnyOp const&, Metas const& in, Metas const&, int workers) {
    return in.data()[0].dtype == DType::bf16 ? rows_workspace(in.data()[0], workers, 2) : 0;
}

inline void softmax_gradient(KernelCall const& call) {
    Buffer const &y = call.in.data()[0], &dx = call.out.data()[0];
    with_floating_type(call, y, [&](auto zero) {
        using C = decltype(zero);
        Rows<C> rows(y.meta.shape, call.workspace, 3);
        run_items(call, rows.count, rows.n, [&](std::int64_t begin, std::int64_t end, int worker) {
            for (std::int64_t r = begin; r < end; ++r) {
                C const* a = read<C>(operand(y), r * rows.n, rows.n, rows.scratch(worker, 0));
                C const* d = read<C>(input(call, 1), r * rows.n, rows.n, rows.scratch(worker, 1));
                C* b = target<C>(operand(dx), r * rows.n, rows.scratch(worker, 2));
                C sum = sum_lanes<C>(
                    rows.n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                        return load<C>(a + i, count) * load<C>(d + i, count);
                    });
                for_lanes<C>(
                    rows.n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                        store<C>(b + i, load<C>(a + i, count) * (load<C>(d + i, count) - sum), count);
                    });
                write<C>(operand(dx), r * rows.n, b, rows.n);
            }
        });
    });
}
inline std::int64_t softmax_gradient_workspace(AnyOp const&, Metas const& in, Metas const&, int workers) {
    return in.data()[0].dtype == DType::bf16 ? rows_workspace(in.data()[0], workers, 3) : 0;
}

/// The part of the classes, one dim, that a block holds. Those from `limit` on are padding; 0: none is.
struct Classes {
    std::int64_t origin = 0, count, all;

    Classes(Buffer const& x, int dim, std::int64_t limit) : count(x.meta.shape.begin()[dim]), all(count) {
        if (!x.block.logical.empty()) {
            origin = x.block.origin.begin()[dim];
            all = x.block.logical.begin()[dim];
        }
        if (limit > 0) all = limit;
    }

    /// Of a last dim.
    explicit Classes(Buffer const& x, std::int64_t limit = 0) : Classes(x, x.meta.shape.rank() - 1, limit) {}

    /// Those of the block that are no padding; they come first.
    std::int64_t counted() const { return larger(0, smaller(count, all - origin)); }

    /// Where the block has a class, or -1: a negative one is nowhere.
    std::int64_t local(KernelCall const& call, std::int64_t target) const {
        if (target >= all) outside_table(call, target, all);
        std::int64_t at = target - origin;
        return target >= 0 && at >= 0 && at < count ? at : -1;
    }
};

inline void cross_entropy(KernelCall const& call) {
    Buffer const& x = call.in.data()[0];
    auto const* targets = call.in.data()[1].as<std::int32_t const>();
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        auto *nll = call.out.data()[0].as<C>(), *lse = call.out.data()[1].as<C>();
        Rows<C> rows(x.meta.shape, call.workspace, 1);
        auto const n = Classes(x, call.attributes<CrossEntropy>().classes).counted();
        run_items(call, rows.count, rows.n, [&](std::int64_t begin, std::int64_t end, int worker) {
            for (std::int64_t r = begin; r < end; ++r) {
                C const* a = read<C>(operand(x), r * rows.n, n, rows.scratch(worker, 0));
                if (targets[r] >= n) outside_table(call, targets[r], n);
                C most = row_max(a, n);
                C sum = sum_lanes<C>(
                    n, [&](std::int64_t i, auto count)
                           __attribute__((always_inline)) { return exp(load<C>(a + i, count) - most); });
                lse[r] = most + log_of(sum);
                nll[r] = targets[r] < 0 ? C(0) : lse[r] - a[targets[r]];
            }
        });
    });
}
inline std::int64_t cross_entropy_workspace(AnyOp const&, Metas const& in, Metas const&, int workers) {
    return in.data()[0].dtype == DType::bf16 ? rows_workspace(in.data()[0], workers, 1) : 0;
}

inline void pick(KernelCall const& call) {
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    auto const* index = call.in.data()[1].as<std::int32_t const>();
    Classes classes(x, call.attributes<Pick>().classes);
    std::int64_t size = bytes_of(x.meta.dtype, 1);
    for (std::int64_t r = 0; r < y.meta.elements(); ++r) {
        auto at = classes.local(call, index[r]);
        if (at >= 0)
            __builtin_memcpy(y.data + r * size, x.data + (r * classes.count + at) * size,
                             static_cast<std::size_t>(size));
        else __builtin_memset(y.data + r * size, 0, static_cast<std::size_t>(size));
    }
}

inline void cross_entropy_gradient(KernelCall const& call) {
    Buffer const &x = call.in.data()[0], &dx = call.out.data()[0];
    auto const* targets = call.in.data()[1].as<std::int32_t const>();
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        auto const *lse = call.in.data()[2].as<C const>(), *dnll = call.in.data()[3].as<C const>();
        Rows<C> rows(x.meta.shape, call.workspace, 2);
        Classes classes(x, call.attributes<CrossEntropyGradient>().classes);
        auto const n = classes.counted();
        run_items(call, rows.count, rows.n, [&](std::int64_t begin, std::int64_t end, int worker) {
            for (std::int64_t r = begin; r < end; ++r) {
                C const* a = read<C>(operand(x), r * rows.n, n, rows.scratch(worker, 0));
                C* b = target<C>(operand(dx), r * rows.n, rows.scratch(worker, 1));
                auto at = classes.local(call, targets[r]);
                bool here = at >= 0;
                C shift = lse[r], d = targets[r] >= 0 ? dnll[r] : C(0);
                // Apart, since p - 1 of the target must round once: (p - 1) * d.
                C at_target = here ? a[at] : C(0);
                for_lanes<C>(
                    n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
                        store<C>(b + i, exp(load<C>(a + i, count) - shift) * d, count);
                    });
                for (auto i = n; i < rows.n; ++i) b[i] = C(0);
                if (here) b[at] = (exp(splat<Vector<C>>(at_target - shift))[0] - C(1)) * d;
                write<C>(operand(dx), r * rows.n, b, rows.n);
            }
        });
    });
}
inline std::int64_t cross_entropy_gradient_workspace(AnyOp const&, Metas const& in, Metas const&,
                                                     int workers) {
    return in.data()[0].dtype == DType::bf16 ? rows_workspace(in.data()[0], workers, 2) : 0;
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
