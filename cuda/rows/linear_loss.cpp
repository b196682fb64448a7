#include "plait/ops/loss.hpp"

#include "cuda/rows.hpp"
#include "cuda/rows/loss_rows.hpp"
#include "cuda/rows/multiply.hpp"

#include <algorithm>

namespace plait::cuda {
namespace {

/// Sizes and scratch of a chunked loss. Logits are of the operands' dtype, [chunk, stride] in the workspace,
/// and what is computed from them f32; their gradient takes their place, element on element.
struct LinearLoss {
    static constexpr std::int64_t tile = 64;
    std::int64_t tokens, dim, vocab, chunk;  // vocab: classes that products have
    DType type;

    /// Only the first `classes` rows of w count where that is not 0. Products take a tile's rest of padding
    /// along, as sizes that are no multiple of one are slow: its rows are finite numbers, its logits are left
    /// out of every sum, and its gradients are exact zeros. A block of a divided vocabulary may count fewer.
    LinearLoss(Meta const& x, Meta const& w, std::int64_t chunk_tokens, std::int64_t classes)
        : tokens(rows_of(x.shape)),
          dim(columns_of(x.shape)),
          vocab(classes > 0 ? std::min((classes + tile - 1) / tile * tile, w.shape[0]) : w.shape[0]),
          chunk(std::max<std::int64_t>(1, std::min(chunk_tokens, tokens))),
          type(x.dtype) {}

    /// Of a row: whole cache lines, whatever the vocabulary.
    std::int64_t stride() const { return (vocab + tile - 1) / tile * tile; }
    std::int64_t logits_bytes() const { return padded(bytes_of(type, chunk * stride())); }
    std::int64_t workspace() const {
        auto most = std::max(multiply_bytes(chunk, vocab, dim), multiply_bytes(chunk, dim, vocab));
        return logits_bytes() + most;
    }

    Matrix rows(std::byte* data, std::int64_t stride, std::int64_t first, bool transposed = false) const {
        return {.data = data + bytes_of(type, first * stride),
                .dtype = type,
                .stride = stride,
                .transposed = transposed};
    }
    /// Logits of tokens [first, first + n).
    void project(KernelCall const& call, Buffer const& x, Buffer const& w, std::int64_t first,
                 std::int64_t n) const {
        Multiplication p;
        p.m = n, p.n = vocab, p.k = dim;
        p.a = rows(x.data, dim, first);
        p.b = rows(w.data, dim, 0, true);
        p.c = rows(call.workspace, stride(), 0);
        multiply(call, call.workspace + logits_bytes(), p);
    }
    /// dx of these tokens, from the gradient of their logits, and dw, added to what others gave.
    void back(KernelCall const& call, Buffer const& x, Buffer const& w, Buffer const& dx, Buffer const& dw,
              std::int64_t first, std::int64_t n, bool add) const {
        Multiplication p;
        p.m = n, p.n = dim, p.k = vocab;
        p.a = rows(call.workspace, stride(), 0);
        p.b = rows(w.data, dim, 0);
        p.c = rows(dx.data, dim, first);
        multiply(call, call.workspace + logits_bytes(), p);
        p = {};
        p.m = vocab, p.n = dim, p.k = n;
        p.a = rows(call.workspace, stride(), 0, true);
        p.b = rows(x.data, dim, first);
        p.c = {.data = dw.data, .dtype = f32, .stride = dim};
        p.accumulate = add;
        multiply(call, call.workspace + logits_bytes(), p);
    }
};

struct Operands {
    Buffer const *x, *w, *targets, *lse_in, *dnll;
    Buffer const *nll, *lse, *dx, *dw;
};

/// Loss and gradient of a chunk's logits.
template <class T>
void rows_of_chunk(KernelCall const& call, LinearLoss const& l, Operands const& o, LossClasses const& classes,
                   std::int64_t first, std::int64_t n) {
    auto from = [&](Buffer const* b) { return b ? b->as<float>() + first : nullptr; };
    auto* logits = reinterpret_cast<T*>(call.workspace);
    launch_loss<T>(*call.queue, {.logits = logits,
                                 .dlogits = o.dnll ? logits : nullptr,
                                 .targets = o.targets->as<std::int32_t const>() + first,
                                 .dnll = from(o.dnll),
                                 .lse_in = from(o.lse_in),
                                 .nll = from(o.nll),
                                 .lse = from(o.lse),
                                 .fault = call.queue->fault(),
                                 .rows = n,
                                 .first = first,
                                 .stride = static_cast<int>(l.stride()),
                                 .columns = static_cast<int>(l.vocab),
                                 .classes = classes});
}

template <class T>
void parts_of_chunk(KernelCall const& call, LinearLoss const& l, LossClasses const& classes,
                    std::int64_t parts, std::int64_t first, std::int64_t n) {
    launch(*call.queue, LinearLossParts<T>{.logits = reinterpret_cast<T const*>(call.workspace),
                                           .targets = call.in[2].as<std::int32_t const>() + first,
                                           .lse = call.out[0].as<float>() + first * parts,
                                           .at_target = call.out[1].as<float>() + first * parts,
                                           .fault = call.queue->fault(),
                                           .rows = n,
                                           .first = first,
                                           .parts = parts,
                                           .stride = static_cast<int>(l.stride()),
                                           .each = static_cast<int>(classes.count / parts),
                                           .classes = classes});
}

/// `dw` is the number of that output, -1 without one.
void linear_loss(KernelCall const& call, std::int64_t chunk, std::int64_t limit, Operands const& o, int dw) {
    want_computable(call, o.x->meta.dtype);
    bool const add = dw >= 0 && (call.accumulate >> dw & 1);
    LinearLoss l(o.x->meta, o.w->meta, chunk, limit);
    auto const classes = classes_of(*o.w, 0, limit);
    for (std::int64_t first = 0; first < l.tokens; first += l.chunk) {
        auto const n = std::min(l.chunk, l.tokens - first);
        l.project(call, *o.x, *o.w, first, n);
        if (l.type == bf16) rows_of_chunk<Bf16>(call, l, o, classes, first, n);
        else rows_of_chunk<float>(call, l, o, classes, first, n);
        if (dw >= 0) l.back(call, *o.x, *o.w, *o.dx, *o.dw, first, n, first > 0 || add);
    }
    if (dw < 0 || add) return;
    // Rows of padding, and all where there is no token.
    auto const written = bytes_of(f32, l.tokens ? l.vocab * l.dim : 0);
    if (auto rest = o.dw->meta.bytes() - written; rest > 0) call.queue->fill(o.dw->data + written, 0, rest);
}

template <class O>
std::int64_t workspace_of(AnyOp const& op, Metas const& in) {
    auto const& o = *op.as<O>();
    return LinearLoss(in[0], in[1], o.chunk, o.classes).workspace();
}

}  // namespace

void linear_cross_entropy(KernelCall const& call) {
    auto const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropy>();
    linear_loss(call, op.chunk, op.classes,
                {in, in + 1, in + 2, nullptr, nullptr, out, out + 1, nullptr, nullptr}, -1);
}
std::int64_t linear_cross_entropy_workspace(AnyOp const& op, Metas const& in, Metas const&, int) {
    return workspace_of<LinearCrossEntropy>(op, in);
}

void linear_cross_entropy_gradient(KernelCall const& call) {
    auto const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropyGradient>();
    linear_loss(call, op.chunk, op.classes,
                {in, in + 1, in + 2, in + 3, in + 4, nullptr, nullptr, out, out + 1}, 1);
}
std::int64_t linear_cross_entropy_gradient_workspace(AnyOp const& op, Metas const& in, Metas const&, int) {
    return workspace_of<LinearCrossEntropyGradient>(op, in);
}

void linear_cross_entropy_step(KernelCall const& call) {
    auto const *in = call.in.data(), *out = call.out.data();
    auto const& op = call.attributes<LinearCrossEntropyStep>();
    linear_loss(call, op.chunk, op.classes,
                {in, in + 1, in + 2, nullptr, in + 3, out, out + 1, out + 2, out + 3}, 3);
}
std::int64_t linear_cross_entropy_step_workspace(AnyOp const& op, Metas const& in, Metas const&, int) {
    return workspace_of<LinearCrossEntropyStep>(op, in);
}

void linear_loss_blocks(KernelCall const& call) {
    auto const &x = call.in[0], &w = call.in[1];
    auto const& op = call.attributes<LinearLossBlocks>();
    want_computable(call, x.meta.dtype);
    LinearLoss l(x.meta, w.meta, op.chunk, op.classes);
    auto const classes = classes_of(w, 0, op.classes);
    for (std::int64_t first = 0; first < l.tokens; first += l.chunk) {
        auto const n = std::min(l.chunk, l.tokens - first);
        l.project(call, x, w, first, n);
        if (l.type == bf16) parts_of_chunk<Bf16>(call, l, classes, op.blocks, first, n);
        else parts_of_chunk<float>(call, l, classes, op.blocks, first, n);
    }
}
std::int64_t linear_loss_blocks_workspace(AnyOp const& op, Metas const& in, Metas const&, int) {
    return workspace_of<LinearLossBlocks>(op, in);
}

}  // namespace plait::cuda
