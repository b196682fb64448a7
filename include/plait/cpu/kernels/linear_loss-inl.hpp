#pragma once

#include "plait/cpu/kernels/matmul-inl.hpp"
#include "plait/cpu/kernels/rows-inl.hpp"
#include "plait/ops/loss.hpp"

// Each chunk of tokens runs twice over the pool: tiles of its logits with their loss and gradient, which stay
// where the logits were; then tiles of dx and of dw, which adds up over the chunks in their order.
namespace plait::cpu::PLAIT_CPU_TARGET {

/// Sizes, tiles and scratch. Logits are of the compute type; their gradient is of the operands' dtype.
struct LinearLoss {
    std::int64_t tokens = 0, dim = 0, vocab = 0, chunk = 0;
    DType type = DType::f32, wide = DType::f32;
    bool loss = false, gradient = false;  // what is wanted

    /// Only the first `classes` rows of w are read where that is not 0, as if there were no others. A block
    /// of a divided vocabulary may count fewer: its rows of padding are zeros, and products take them along.
    LinearLoss(Meta const& x, Meta const& w, std::int64_t chunk_tokens, std::int64_t classes, bool with_loss,
               bool with_gradient)
        : tokens(matrix_rows(x.shape)),
          dim(matrix_columns(x.shape)),
          vocab(classes > 0 ? smaller(classes, w.shape.begin()[0]) : w.shape.begin()[0]),
          chunk(larger(1, smaller(chunk_tokens, tokens))),
          type(x.dtype),
          wide(x.dtype == DType::f64 ? DType::f64 : DType::f32),
          loss(with_loss),
          gradient(with_gradient) {}

    /// Products of a chunk of `n` tokens: logits[n, vocab], dx[n, dim], dw[vocab, dim].
    ProductTiles logits(std::int64_t n) const {
        ProductTiles t({n, vocab, dim, false, true, type, wide});
        t.rows = smaller(t.rows, 64), t.columns = larger(vocab, 1);
        return t;
    }
    ProductTiles dx(std::int64_t n) const { return ProductTiles({n, dim, vocab, false, false, type, type}); }
    ProductTiles dw(std::int64_t n) const {
        ProductTiles t({vocab, dim, n, true, false, type, wide});
        t.rows = smaller(t.rows, 128);
        return t;
    }

    // Scratch: dlogits of a chunk; then for each worker a tile of logits, unless it can lie in their place,
    // and the products' own.
    bool apart() const { return !gradient || type != wide; }
    std::int64_t chunk_bytes() const { return gradient ? padded(bytes_of(type, chunk * vocab)) : 0; }
    std::int64_t tile_bytes() const {
        return apart() ? padded(bytes_of(wide, smaller(chunk, 64) * vocab)) : 0;
    }
    std::int64_t gemm_bytes() const {
        std::int64_t most = 0;
        for (auto n : {chunk, tokens % chunk}) {
            if (!n) continue;
            most = larger(most, logits(n).workspace());
            if (gradient) most = larger(most, larger(dx(n).workspace(), dw(n).workspace()));
        }
        return most;
    }
    std::int64_t workspace(int workers) const {
        return chunk_bytes() + workers * (tile_bytes() + gemm_bytes());
    }
};

struct LinearLossOperands {
    Buffer const *x, *w, *targets, *lse_in, *dnll;
    Buffer const *nll, *lse, *dx, *dw;
};

/// lse of a row of logits: -inf where there are none.
template <class C>
inline C row_lse(C const* a, std::int64_t n) {
    if (n == 0) return -__builtin_inf();
    C most = row_max(a, n);
    C sum = sum_lanes<C>(
        n, [&](std::int64_t i, auto count)
               __attribute__((always_inline)) { return exp(load<C>(a + i, count) - most); });
    return most + log_of(sum);
}
/// The gradient of a row of logits, whose target is at `at`, if not -1; it may take their place.
template <class C>
inline void row_gradient(C const* a, std::int64_t n, std::int64_t at, C lse, C dnll, C* d) {
    C at_target = at < 0 ? C(0) : (exp(splat<Vector<C>>(a[at] - lse))[0] - C(1)) * dnll;
    for_lanes<C>(
        n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
            store<C>(d + i, exp(load<C>(a + i, count) - lse) * dnll, count);
        });
    if (at >= 0) d[at] = at_target;
}

template <class C>
inline void linear_loss(KernelCall const& call, LinearLoss const& l, LinearLossOperands const& o,
                        Classes const& classes, bool add) {
    auto const counted = classes.counted();
    auto gemm_bytes = l.gemm_bytes(), worker_bytes = l.tile_bytes() + gemm_bytes;
    auto* dlogits = call.workspace;
    auto scratch = [&](int worker) { return call.workspace + l.chunk_bytes() + worker * worker_bytes; };
    for (std::int64_t first = 0; first < l.tokens; first += l.chunk) {
        auto n = smaller(l.chunk, l.tokens - first);
        auto logits = l.logits(n);
        run_tiles(call, logits.count(), [&](std::int64_t i, int worker) {
            auto t = logits.tile(i);
            auto* room = reinterpret_cast<C*>(l.apart() ? scratch(worker) + gemm_bytes
                                                        : dlogits + bytes_of(l.wide, t.row * l.vocab));
            multiply(t.shape, element(*o.x, first * l.dim + t.a), o.w->data, room, scratch(worker));
            for (std::int64_t r = 0; r < t.shape.m; ++r) {
                auto token = first + t.row + r;
                auto target = o.targets->as<std::int32_t const>()[token];
                auto at = classes.local(call, target);
                C* a = room + r * l.vocab;
                C lse = l.loss ? row_lse<C>(a, counted) : o.lse_in->as<C const>()[token];
                if (l.loss) {
                    o.nll->as<C>()[token] = at < 0 ? C(0) : lse - a[at];
                    o.lse->as<C>()[token] = lse;
                }
                if (!l.gradient) continue;
                row_gradient(a, counted, at, lse, target < 0 ? C(0) : o.dnll->as<C const>()[token], a);
                for (auto c = counted; c < l.vocab; ++c) a[c] = C(0);
                if (l.apart()) write<C>({dlogits, l.type}, (t.row + r) * l.vocab, a, l.vocab);
            }
        });
        if (!l.gradient) continue;
        auto dx = l.dx(n), dw = l.dw(n);
        // The tiles of dw are the longer ones.
        run_tiles(call, dx.count() + dw.count(), [&](std::int64_t i, int worker) {
            bool weight = i < dw.count();
            auto t = weight ? dw.tile(i) : dx.tile(i - dw.count());
            t.shape.accumulate = weight && (first > 0 || add);
            multiply(t.shape, dlogits + bytes_of(l.type, t.a),
                     weight ? element(*o.x, first * l.dim + t.b) : element(*o.w, t.b),
                     weight ? element(*o.dw, t.c) : element(*o.dx, first * l.dim + t.c), scratch(worker));
        });
    }
    if (!l.gradient || add) return;
    // Rows of padding, and all where there is no token.
    auto const written = bytes_of(o.dw->meta.dtype, l.tokens ? l.vocab * l.dim : 0);
    std::memset(o.dw->data + written, 0, static_cast<std::size_t>(o.dw->meta.bytes() - written));
}

/// `dw` is the number of that output, -1 without one.
inline void linear_loss(KernelCall const& call, std::int64_t chunk, std::int64_t limit, bool loss,
                        LinearLossOperands const& o, int dw) {
    bool add = dw >= 0 && (call.accumulate >> dw & 1);
    LinearLoss l(o.x->meta, o.w->meta, chunk, limit, loss, dw >= 0);
    Classes classes(*o.w, 0, limit);
    with_floating_type(call, *o.x, [&](auto zero) { linear_loss<decltype(zero)>(call, l, o, classes, add); });
}

inline void linear_cross_entropy(KernelCall const& call) {
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropy>();
    linear_loss(call, op.chunk, op.classes, true,
                {in, in + 1, in + 2, nullptr, nullptr, out, out + 1, nullptr, nullptr}, -1);
}
inline void linear_cross_entropy_gradient(KernelCall const& call) {
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropyGradient>();
    linear_loss(call, op.chunk, op.classes, false,
                {in, in + 1, in + 2, in + 3, in + 4, nullptr, nullptr, out, out + 1}, 1);
}
inline void linear_cross_entropy_step(KernelCall const& call) {
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropyStep>();
    linear_loss(call, op.chunk, op.classes, true,
                {in, in + 1, in + 2, nullptr, in + 3, out, out + 1, out + 2, out + 3}, 3);
}

inline void linear_loss_blocks(KernelCall const& call) {
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearLossBlocks>();
    Classes classes(in[1], 0, op.classes);
    LinearLoss l(in[0].meta, in[1].meta, op.chunk, op.classes, true, false);
    auto const rows = classes.count / op.blocks, counted = classes.counted();
    auto gemm_bytes = l.gemm_bytes(), worker_bytes = l.tile_bytes() + gemm_bytes;
    with_floating_type(call, in[0], [&](auto zero) {
        using C = decltype(zero);
        auto *lse = out[0].as<C>(), *at_target = out[1].as<C>();
        for (std::int64_t start = 0; start < l.tokens; start += l.chunk) {
            auto logits = l.logits(smaller(l.chunk, l.tokens - start));
            run_tiles(call, logits.count(), [&](std::int64_t i, int worker) {
                auto t = logits.tile(i);
                auto* scratch = call.workspace + worker * worker_bytes;
                auto* room = scratch + gemm_bytes;
                multiply(t.shape, element(in[0], start * l.dim + t.a), in[1].data, room, scratch);
                for (std::int64_t r = 0; r < t.shape.m; ++r) {
                    auto token = start + t.row + r;
                    auto at = classes.local(call, in[2].as<std::int32_t const>()[token]);
                    C const* a = reinterpret_cast<C const*>(room) + r * l.vocab;
                    for (std::int64_t b = 0; b < op.blocks; ++b) {
                        auto first = smaller(b * rows, counted), end = smaller(first + rows, counted);
                        lse[token * op.blocks + b] = row_lse<C>(a + first, end - first);
                        at_target[token * op.blocks + b] = at >= first && at < end ? a[at] : -__builtin_inf();
                    }
                }
            });
        }
    });
}

template <class O>
inline std::int64_t linear_loss_workspace(AnyOp const& op, Metas const& in, int workers, bool loss,
                                          bool gradient) {
    auto const& o = *op.as<O>();
    return LinearLoss(in.data()[0], in.data()[1], o.chunk, o.classes, loss, gradient).workspace(workers);
}
inline std::int64_t linear_cross_entropy_workspace(AnyOp const& op, Metas const& in, Metas const&,
                                                   int workers) {
    return linear_loss_workspace<LinearCrossEntropy>(op, in, workers, true, false);
}
inline std::int64_t linear_cross_entropy_gradient_workspace(AnyOp const& op, Metas const& in, Metas const&,
                                                            int workers) {
    return linear_loss_workspace<LinearCrossEntropyGradient>(op, in, workers, false, true);
}
inline std::int64_t linear_cross_entropy_step_workspace(AnyOp const& op, Metas const& in, Metas const&,
                                                        int workers) {
    return linear_loss_workspace<LinearCrossEntropyStep>(op, in, workers, true, true);
}
inline std::int64_t linear_loss_blocks_workspace(AnyOp const& op, Metas const& in, Metas const&,
                                                 int workers) {
    return linear_loss_workspace<LinearLossBlocks>(op, in, workers, true, false);
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
