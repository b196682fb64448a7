#pragma once

#include "plait/cpu/kernels/view-inl.hpp"
#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// Copies a block between its own buffer and its place in the whole, `start` elements on along `dim`.
inline void copy_block(KernelCall const& call, Buffer const& whole, Buffer const& block, int dim,
                       std::int64_t start, bool out) {
    std::int64_t step = step_bytes(block.meta, dim), own = block.meta.shape.begin()[dim] * step;
    std::int64_t row = whole.meta.shape.begin()[dim] * step, rows = elements(block.meta.shape, 0, dim);
    std::byte* place = whole.data + start * step;
    if (out) copy_rows(call, place, row, block.data, own, rows, own);
    else copy_rows(call, block.data, own, place, row, rows, own);
}

inline void micro_take(KernelCall const& call) {
    Buffer const& y = call.out.data()[0];
    int dim = call.attributes<MicroTake>().dim;
    copy_block(call, call.in.data()[0], y, dim, call.micro * y.meta.shape.begin()[dim], false);
}

inline void micro_stack(KernelCall const& call) {
    Buffer const& x = call.in.data()[0];
    int dim = call.attributes<MicroStack>().dim;
    copy_block(call, call.out.data()[0], x, dim, call.micro * x.meta.shape.begin()[dim], true);
}

inline void part(KernelCall const& call) {
    auto const& op = call.attributes<Part>();
    copy_block(call, call.in.data()[0], call.out.data()[0], op.dim, op.start, false);
}

inline void join(KernelCall const& call) {
    int dim = call.attributes<Join>().dim;
    std::int64_t start = 0;
    for (std::size_t i = 0; i < call.in.size(); ++i) {
        Buffer const& x = call.in.data()[i];
        copy_block(call, call.out.data()[0], x, dim, start, true);
        start += x.meta.shape.begin()[dim];
    }
}

inline void leaf_tree(KernelCall const& call) {
    auto const& op = call.attributes<LeafTree>();
    Buffer const &x = call.in.data()[0], &y = call.out.data()[0];
    std::int64_t n = y.meta.elements();
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        // Elements [i, i + m) of the sum of `runs` runs from leaf `first` on.
        auto sum = [&](auto const& self, std::int64_t first, std::int64_t runs, std::int64_t i,
                       std::int64_t m, C* to) -> void {
            C other[block_elements];
            auto add = [&](C const* more) {
                for_lanes<C>(
                    m, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                        store<C>(to + j, load<C>(to + j, count) + load<C>(more + j, count), count);
                    });
                if (y.meta.dtype == bf16)
                    for (std::int64_t j = 0; j < m; ++j)
                        to[j] = static_cast<float>(Bf16(static_cast<float>(to[j])));
            };
            auto leaf = [&](std::int64_t k, C* into) {
                return read<C>(Operand{x.data + bytes_of(x.meta.dtype, k * n), x.meta.dtype}, i, m, into);
            };
            if (runs > 1) {
                self(self, first, runs / 2, i, m, to);
                self(self, first + runs / 2 * op.chain, runs / 2, i, m, other);
                return add(other);
            }
            if (C const* start = leaf(first, to); start != to)
                for (std::int64_t j = 0; j < m; ++j) to[j] = start[j];
            for (std::int64_t k = 1; k < op.chain; ++k) add(leaf(first + k, other));
        };
        run_items(call, n, 1, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t i = begin; i < end; i += block_elements) {
                std::int64_t m = smaller(block_elements, end - i);
                C total[block_elements];
                sum(sum, 0, op.count / op.chain, i, m, total);
                write<C>(operand(y), i, total, m);
            }
        });
    });
}

inline void micro_sum(KernelCall const& call) {
    Buffer const &x = call.in.data()[0], &total = call.out.data()[0];
    if (!(call.accumulate & 1)) return copy_bytes(call, total.data, x.data, x.meta.bytes());
    with_compute_type(total.meta.dtype, x.meta.dtype, [&](auto zero) {
        map<decltype(zero), 2, 1>(
            call, {operand(total), operand(x)}, {operand(total)},
            total.meta.elements(), [=](auto const& a, auto& b) __attribute__((always_inline)) {
                b[0] = a[0] + a[1];
            });
    });
}

/// In one pass: the new addend, then the left sides that it completes; what comes out waits or is the sum.
inline void micro_tree(KernelCall const& call) {
    auto const& op = call.attributes<MicroTree>();
    Buffer const &x = call.in.data()[0], &total = call.out.data()[0], &pending = call.out.data()[1];
    auto links = static_cast<std::int64_t>(call.in.size());
    std::int64_t n = x.meta.elements(), done = call.micro * links, link = done % op.chain;
    std::int64_t branch = done / op.chain;
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        auto level = [&](std::int64_t k) {
            return Operand{pending.data + bytes_of(pending.meta.dtype, k * n), pending.meta.dtype};
        };
        bool complete = link + links == op.chain;
        std::int64_t left = complete ? __builtin_ctzll(~static_cast<unsigned long long>(branch)) : 0;
        auto to = complete && left < op.levels ? level(left) : operand(total);
        run_items(call, n, 1, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t i = begin; i < end; i += block_elements) {
                std::int64_t m = smaller(block_elements, end - i);
                C sum[block_elements], scratch[block_elements];
                auto add = [&](C const* a, C const* b) {
                    for_lanes<C>(
                        m, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                            store<C>(sum + j, load<C>(a + j, count) + load<C>(b + j, count), count);
                        });
                };
                C const* latest = read<C>(operand(x), i, m, sum);
                if (link) add(read<C>(operand(total), i, m, scratch), latest), latest = sum;
                for (std::int64_t k = 1; k < links; ++k)
                    add(latest, read<C>(input(call, static_cast<int>(k)), i, m, scratch)), latest = sum;
                for (std::int64_t k = 0; k < left; ++k)
                    add(read<C>(level(k), i, m, scratch), latest), latest = sum;
                write<C>(to, i, latest, m);
            }
        });
    });
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
