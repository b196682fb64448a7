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

/// Rows of whole tiles of a library.
std::int64_t in_tiles(std::int64_t rows) { return (rows + 127) / 128 * 128; }

/// What a library may take: some of its own, and some f32 numbers for each row of the scores.
std::int64_t library_bytes(AttentionShape const& s) {
    constexpr std::int64_t own = 1 << 20, numbers_a_row = 4;
    return own + padded(bytes_of(f32, numbers_a_row * s.batch * s.heads * in_tiles(s.length)));
}
std::int64_t forward_bytes(AttentionShape const& s, DType dtype) {
    return dtype == bf16 ? library_bytes(s) : 0;
}
/// Rows of the batch that a library takes at a time for the gradient, as many as divide the batch: on Hopper
/// cuDNN adds up dq in one order by keeping the gradient of all scores.
std::int64_t batch_at_once(AttentionShape const& s) {
    constexpr std::int64_t most_bytes = std::int64_t{1} << 30;
    auto one = bytes_of(bf16, s.heads * in_tiles(s.length) * in_tiles(s.keys));
    for (auto n = s.batch; n > 1; --n)
        if (s.batch % n == 0 && n * one <= most_bytes) return n;
    return 1;
}
/// Own kernels want delta alone, an f32 number for each row of the scores. A library adds up dq in f32, and
/// makes dk and dv for each query head.
std::int64_t backward_bytes(AttentionShape s, DType dtype) {
    auto delta = padded(bytes_of(f32, s.batch * s.heads * s.length));
    if (dtype != bf16) return delta;
    s.batch = batch_at_once(s);
    auto heads = s.batch * s.heads;
    auto dq = padded(bytes_of(f32, heads * s.dim * in_tiles(s.length)));
    auto dkv = s.heads == s.kv_heads ? 0 : 2 * padded(bytes_of(bf16, heads * s.dim * in_tiles(s.keys)));
    auto scores = bytes_of(bf16, heads * in_tiles(s.length) * in_tiles(s.keys));
    return std::max(delta, library_bytes(s) + dq + dkv + scores);
}

/// The gradient by a library, or false.
bool attend_back(Queue& queue, AttentionCall all, AttentionShape const& s) {
    all.batch = batch_at_once(s);
    auto moved = [](auto* data, std::int64_t bytes) { return data + bytes; };
    auto const q_bytes = bytes_of(all.dtype, all.batch * s.length * s.heads * s.dim),
               k_bytes = bytes_of(all.dtype, all.batch * s.keys * s.kv_heads * s.dim),
               lse_bytes = bytes_of(f32, all.batch * s.heads * s.length);
    for (std::int64_t first = 0; first < s.batch; first += all.batch) {
        // All slices are of one shape, so it is the first that is refused.
        if (!queue.attend(all)) return false;
        for (auto* x : {&all.q, &all.dout}) *x = moved(*x, q_bytes);
        for (auto* x : {&all.k, &all.v}) *x = moved(*x, k_bytes);
        for (auto* x : {&all.out, &all.dq}) *x = moved(*x, q_bytes);
        for (auto* x : {&all.dk, &all.dv}) *x = moved(*x, k_bytes);
        all.lse = moved(all.lse, lse_bytes);
    }
    return true;
}

template <class T, class Kernel>
void forward(KernelCall const& call, AttentionShape const& s) {
    launch(*call.queue, Kernel{.shape = s,
                               .q = call.in[0].as<T const>(),
                               .k = call.in[1].as<T const>(),
                               .v = call.in[2].as<T const>(),
                               .out = call.out[0].as<T>(),
                               .lse = call.out[1].as<float>()});
}

template <class T, class QueryGradient, class KeyGradient>
void backward(KernelCall const& call, AttentionShape const& s) {
    auto const *q = call.in[0].as<T const>(), *k = call.in[1].as<T const>(), *v = call.in[2].as<T const>(),
               *out = call.in[3].as<T const>(), *dout = call.in[5].as<T const>();
    auto const* lse = call.in[4].as<float const>();
    auto* delta = reinterpret_cast<float*>(call.workspace);
    launch(*call.queue, AttentionDelta<T>{.shape = s, .out = out, .dout = dout, .delta = delta});
    launch(*call.queue, QueryGradient{.shape = s,
                                      .q = q,
                                      .k = k,
                                      .v = v,
                                      .dout = dout,
                                      .lse = lse,
                                      .delta = delta,
                                      .dq = call.out[0].as<T>()});
    launch(*call.queue, KeyGradient{.shape = s,
                                    .q = q,
                                    .k = k,
                                    .v = v,
                                    .dout = dout,
                                    .lse = lse,
                                    .delta = delta,
                                    .dk = call.out[1].as<T>(),
                                    .dv = call.out[2].as<T>()});
}

/// Whether tensor cores serve. A head that is divided, or read as a part of a batch, starts at a multiple of
/// 16 bytes where the whole does, so that no layout chooses other kernels.
bool on_tensor_cores(KernelCall const& call, AttentionShape const& s) {
    auto all_aligned = [](auto const& buffers) {
        return std::all_of(buffers.begin(), buffers.end(),
                           [](Buffer const& b) { return b.meta.dtype == f32 || aligned(b.data); });
    };
    // They count eights of elements, and rows, in 32 bits.
    constexpr std::int64_t most = 1 << 30;
    return call.in[0].meta.dtype == bf16 && s.dim % 8 == 0 && s.dim <= 128 && s.keys > 0 &&
           s.batch * s.heads * s.length < most && s.batch * s.length * s.q_row() / 8 < most &&
           s.batch * s.keys * s.kv_row() / 8 < most && all_aligned(call.in) && all_aligned(call.out);
}

/// f(T, columns), of the kernels without tensor cores for this dtype and width of a head.
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
    if (!on_tensor_cores(call, s))
        with_kernel(call, s,
                    [&]<class T, int columns>() { forward<T, AttentionForward<T, columns>>(call, s); });
    else if (s.dim <= 64) forward<Bf16, TensorAttention<64>>(call, s);
    else forward<Bf16, TensorAttention<128>>(call, s);
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
    if (attend_back(*call.queue, library, s)) return;
    if (!on_tensor_cores(call, s))
        with_kernel(call, s, [&]<class T, int columns>() {
            // Two sums of 128 columns leave too few registers.
            backward<T, AttentionQueryGradient<T, columns>, AttentionKeyGradient<T, 64>>(call, s);
        });
    else if (s.dim <= 64) backward<Bf16, TensorQueryGradient<64>, TensorKeyGradient<64>>(call, s);
    else backward<Bf16, TensorQueryGradient<128>, TensorKeyGradient<128>>(call, s);
}
std::int64_t attention_gradient_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return backward_bytes(shape_of(in[0].shape, in[1].shape, false), in[0].dtype);
}

}  // namespace plait::cuda
