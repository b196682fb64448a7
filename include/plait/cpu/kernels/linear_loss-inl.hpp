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

    /// Only the first `classes` rows of w are read where that is not 0, as if there were no others.
    LinearLoss(Meta const& x, Meta const& w, std::int64_t chunk_tokens, std::int64_t classes, bool with_loss,
               bool with_gradient)
        : tokens(matrix_rows(x.shape)),
          dim(matrix_columns(x.shape)),
          vocab(classes > 0 ? classes : w.shape.begin()[0]),
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

/// lse and nll of a row of logits.
template <class C>
inline void row_loss(C const* a, std::int64_t n, std::int32_t target, C& nll, C& lse) {
    C most = row_max(a, n);
    C sum = sum_lanes<C>(
        n, [&](std::int64_t i, auto count)
               __attribute__((always_inline)) { return exp(load<C>(a + i, count) - most); });
    lse = most + log_of(sum);
    nll = target < 0 ? C(0) : lse - a[target];
}
/// The gradient of a row of logits; it may take their place.
template <class C>
inline void row_gradient(C const* a, std::int64_t n, std::int32_t target, C lse, C dnll, C* d) {
    C at_target = target < 0 ? C(0) : (exp(splat<Vector<C>>(a[target] - lse))[0] - C(1)) * dnll;
    C scale = target < 0 ? C(0) : dnll;
    for_lanes<C>(
        n, [&](std::int64_t i, auto count) __attribute__((always_inline)) {
            store<C>(d + i, exp(load<C>(a + i, count) - lse) * scale, count);
        });
    if (target >= 0) d[target] = at_target;
}

template <class C>
inline void linear_loss(KernelCall const& call, LinearLoss const& l, LinearLossOperands const& o, bool add) {
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
                if (target >= l.vocab) outside_table(call, target, l.vocab);
                C* a = room + r * l.vocab;
                C lse = l.loss ? C(0) : o.lse_in->as<C const>()[token];
                if (l.loss) {
                    row_loss(static_cast<C const*>(a), l.vocab, target, o.nll->as<C>()[token], lse);
                    o.lse->as<C>()[token] = lse;
                }
                if (!l.gradient) continue;
                row_gradient(static_cast<C const*>(a), l.vocab, target, lse, o.dnll->as<C const>()[token], a);
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

inline void linear_loss(KernelCall const& call, LinearLoss const& l, LinearLossOperands const& o, int dw) {
    bool add = dw >= 0 && (call.accumulate >> dw & 1);
    with_floating_type(call, *o.x, [&](auto zero) { linear_loss<decltype(zero)>(call, l, o, add); });
}

inline void linear_cross_entropy(KernelCall const& call) {
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropy>();
    LinearLoss l(in[0].meta, in[1].meta, op.chunk, op.classes, true, false);
    linear_loss(call, l, {in, in + 1, in + 2, nullptr, nullptr, out, out + 1, nullptr, nullptr}, -1);
}
inline void linear_cross_entropy_gradient(KernelCall const& call) {
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropyGradient>();
    LinearLoss l(in[0].meta, in[1].meta, op.chunk, op.classes, false, true);
    linear_loss(call, l, {in, in + 1, in + 2, in + 3, in + 4, nullptr, nullptr, out, out + 1}, 1);
}
inline void linear_cross_entropy_step(KernelCall const& call) {
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropyStep>();
    LinearLoss l(in[0].meta, in[1].meta, op.chunk, op.classes, true, true);
    linear_loss(call, l, {in, in + 1, in + 2, nullptr, in + 3, out, out + 1, out + 2, out + 3}, 3);
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

}  // namespace plait::cpu::PLAIT_CPU_TARGET
