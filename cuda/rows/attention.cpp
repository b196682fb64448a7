#include "plait/ops/attention.hpp"

#include "cuda/launch.hpp"
#include "cuda/rows.hpp"
#include "cuda/rows/multiply.hpp"

#include <algorithm>

namespace plait::cuda {
namespace {

AttentionShape shape_of(Shape const& q, Shape const& k, bool causal) {
    return {.batch = q[0],
            .length = q[1],
            .keys = k[1],
            .heads = q[2],
            .kv_heads = k[2],
            .dim = static_cast<int>(q[3]),
            .causal = causal};
}

/// The inputs that both directions have.
AttentionCall call_of(KernelCall const& call, AttentionShape const& s, std::int64_t workspace_bytes) {
    return {.batch = s.batch,
            .heads = s.heads,
            .kv_heads = s.kv_heads,
            .length = s.length,
            .keys = s.keys,
            .dim = s.dim,
            .dtype = call.in[0].meta.dtype,
            .causal = s.causal,
            .q = call.in[0].data,
            .k = call.in[1].data,
            .v = call.in[2].data,
            .workspace = call.workspace,
            .workspace_bytes = workspace_bytes};
}

/// What a library may take: some of its own, and some f32 numbers for each row of the scores.
std::int64_t library_bytes(AttentionShape const& s) {
    constexpr std::int64_t own = 1 << 20, numbers_a_row = 4, rows_a_tile = 128;
    auto rows = (s.length + rows_a_tile - 1) / rows_a_tile * rows_a_tile;
    return own + padded(bytes_of(f32, numbers_a_row * s.batch * s.heads * rows));
}
std::int64_t forward_bytes(AttentionShape const& s, DType dtype) {
    return dtype == bf16 ? library_bytes(s) : 0;
}
/// Own kernels want delta alone, an f32 number for each row of the scores. A library adds up dq in f32, and
/// makes dk and dv for each query head.
std::int64_t backward_bytes(AttentionShape const& s, DType dtype) {
    auto delta = padded(bytes_of(f32, s.batch * s.heads * s.length));
    if (dtype != bf16) return delta;
    constexpr std::int64_t rows_a_tile = 128;
    auto rows_of = [](std::int64_t n) { return (n + rows_a_tile - 1) / rows_a_tile * rows_a_tile; };
    auto heads = s.batch * s.heads * s.dim;
    auto dq = padded(bytes_of(f32, heads * rows_of(s.length)));
    auto dkv = s.heads == s.kv_heads ? 0 : 2 * padded(bytes_of(bf16, heads * rows_of(s.keys)));
    // On Hopper cuDNN adds up dq in one order by keeping the gradient of all scores.
    constexpr std::int64_t most_scores_bytes = std::int64_t{4} << 30;
    auto scores = bytes_of(bf16, s.batch * s.heads * rows_of(s.length) * rows_of(s.keys));
    if (scores > most_scores_bytes) scores = 0;
    return std::max(delta, library_bytes(s) + dq + dkv + scores);
}

template <class T, int columns>
void forward(KernelCall const& call, AttentionShape const& s) {
    launch(*call.queue, AttentionForward<T, columns>{.shape = s,
                                                     .q = call.in[0].as<T const>(),
                                                     .k = call.in[1].as<T const>(),
                                                     .v = call.in[2].as<T const>(),
                                                     .out = call.out[0].as<T>(),
                                                     .lse = call.out[1].as<float>()});
}

template <class T, int columns>
void backward(KernelCall const& call, AttentionShape const& s) {
    auto const *q = call.in[0].as<T const>(), *k = call.in[1].as<T const>(), *v = call.in[2].as<T const>(),
               *out = call.in[3].as<T const>(), *dout = call.in[5].as<T const>();
    auto const* lse = call.in[4].as<float const>();
    auto* delta = reinterpret_cast<float*>(call.workspace);
    launch(*call.queue, AttentionDelta<T>{.shape = s, .out = out, .dout = dout, .delta = delta});
    launch(*call.queue, AttentionQueryGradient<T, columns>{.shape = s,
                                                           .q = q,
                                                           .k = k,
                                                           .v = v,
                                                           .dout = dout,
                                                           .lse = lse,
                                                           .delta = delta,
                                                           .dq = call.out[0].as<T>()});
    // Two sums of 128 columns leave too few registers.
    launch(*call.queue, AttentionKeyGradient<T, 64>{.shape = s,
                                                    .q = q,
                                                    .k = k,
                                                    .v = v,
                                                    .dout = dout,
                                                    .lse = lse,
                                                    .delta = delta,
                                                    .dk = call.out[1].as<T>(),
                                                    .dv = call.out[2].as<T>()});
}

/// f(T, columns), of the kernels for this dtype and width of a head.
template <class F>
void with_kernel(KernelCall const& call, AttentionShape const& s, F f) {
    auto of = [&]<class T>() {
        if (s.dim <= 64) f.template operator()<T, 64>();
        else f.template operator()<T, 128>();
    };
    switch (call.in[0].meta.dtype) {
        case f32:
            return of.template operator()<float>();
        case bf16:
            return of.template operator()<Bf16>();
        default:
            unsupported(call, call.in[0].meta.dtype);
    }
}

}  // namespace

void attention(KernelCall const& call) {
    auto s = shape_of(call.in[0].meta.shape, call.in[1].meta.shape, call.attributes<Attention>().causal);
    auto library = call_of(call, s, forward_bytes(s, call.in[0].meta.dtype));
    library.out = call.out[0].data, library.lse = call.out[1].data;
    want_computable(call, library.dtype);
    if (call.queue->attend(library)) return;
    with_kernel(call, s, [&]<class T, int columns>() { forward<T, columns>(call, s); });
}
std::int64_t attention_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return forward_bytes(shape_of(in[0].shape, in[1].shape, false), in[0].dtype);
}

void attention_gradient(KernelCall const& call) {
    auto s =
        shape_of(call.in[0].meta.shape, call.in[1].meta.shape, call.attributes<AttentionGradient>().causal);
    auto library = call_of(call, s, backward_bytes(s, call.in[0].meta.dtype));
    library.out = call.in[3].data, library.lse = call.in[4].data, library.dout = call.in[5].data;
    library.dq = call.out[0].data, library.dk = call.out[1].data, library.dv = call.out[2].data;
    want_computable(call, library.dtype);
    if (call.queue->attend(library)) return;
    with_kernel(call, s, [&]<class T, int columns>() { backward<T, columns>(call, s); });
}
std::int64_t attention_gradient_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return backward_bytes(shape_of(in[0].shape, in[1].shape, false), in[0].dtype);
}

}  // namespace plait::cuda
