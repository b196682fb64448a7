#pragma once

#include "plait/cpu/kernels/attention_backward-inl.hpp"
#include "plait/cpu/kernels/attention_forward-inl.hpp"
#include "plait/ops/attention.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

template <class O>
inline AttentionSizes attention_sizes(AnyOp const& op, Shape const& q, Shape const& k) {
    auto at = [](Shape const& s, int i) { return s.begin()[i]; };
    return {at(q, 0), at(q, 1), at(k, 1), at(q, 2), at(k, 2), at(q, 3), op.as<O>()->causal};
}
template <class O>
inline AttentionSizes attention_sizes(KernelCall const& call) {
    return attention_sizes<O>(*call.op, call.in.data()[0].meta.shape, call.in.data()[1].meta.shape);
}

/// Scratch of one worker for `Pass` (AttentionForward or AttentionBackward).
template <class Pass>
inline std::int64_t attention_bytes(AttentionSizes const& s) {
    Pieces pieces;
    Pass(s, pieces);
    return pieces.used;
}

template <class T>
inline void attention_forward(KernelCall const& call) {
    using Pass = AttentionForward<T>;
    auto s = attention_sizes<Attention>(call);
    auto bytes = attention_bytes<Pass>(s), heads = s.batch * s.heads;
    Buffer const *in = call.in.data(), *out = call.out.data();
    run_tiles(call, heads * s.blocks(), [&](std::int64_t tile, int worker) {
        Pieces room{call.workspace + worker * bytes};
        Pass pass(s, room);
        // The last queries have the most keys, so they go first.
        auto first = (s.blocks() - 1 - tile / heads) * attention_block, head = tile % heads;
        pass.run(in[0].as<T>(), in[1].as<T>(), in[2].as<T>(), out[0].as<T>(), out[1].as<typename Pass::C>(),
                 head / s.heads, head % s.heads, first, smaller(attention_block, s.seq - first));
    });
}

template <class T>
inline void attention_backward(KernelCall const& call) {
    using Pass = AttentionBackward<T>;
    auto s = attention_sizes<AttentionGradient>(call);
    auto bytes = attention_bytes<Pass>(s);
    Buffer const *in = call.in.data(), *out = call.out.data();
    typename Pass::Operands x{
        in[0].as<T>(), in[1].as<T>(),  in[2].as<T>(),  in[3].as<T>(), in[4].as<typename Pass::C>(),
        in[5].as<T>(), out[0].as<T>(), out[1].as<T>(), out[2].as<T>()};
    run_tiles(call, s.batch * s.kv_heads, [&](std::int64_t tile, int worker) {
        Pieces room{call.workspace + worker * bytes};
        Pass(s, room).run(x, tile / s.kv_heads, tile % s.kv_heads);
    });
}

inline void attention(KernelCall const& call) {
    switch (call.in.data()[0].meta.dtype) {
        case DType::f32:
            return attention_forward<float>(call);
        case DType::bf16:
            return attention_forward<Bf16>(call);
        case DType::f64:
            return attention_forward<double>(call);
        default:
            unsupported(call, call.in.data()[0].meta.dtype);
    }
}
inline void attention_gradient(KernelCall const& call) {
    switch (call.in.data()[0].meta.dtype) {
        case DType::f32:
            return attention_backward<float>(call);
        case DType::bf16:
            return attention_backward<Bf16>(call);
        case DType::f64:
            return attention_backward<double>(call);
        default:
            unsupported(call, call.in.data()[0].meta.dtype);
    }
}

template <class O, template <class> class Pass>
inline std::int64_t attention_scratch(AnyOp const& op, Metas const& in, int workers) {
    auto s = attention_sizes<O>(op, in.data()[0].shape, in.data()[1].shape);
    switch (in.data()[0].dtype) {
        case DType::f32:
            return workers * attention_bytes<Pass<float>>(s);
        case DType::bf16:
            return workers * attention_bytes<Pass<Bf16>>(s);
        case DType::f64:
            return workers * attention_bytes<Pass<double>>(s);
        default:
            return 0;
    }
}
inline std::int64_t attention_workspace(AnyOp const& op, Metas const& in, Metas const&, int workers) {
    return attention_scratch<Attention, AttentionForward>(op, in, workers);
}
inline std::int64_t attention_gradient_workspace(AnyOp const& op, Metas const& in, Metas const&,
                                                 int workers) {
    return attention_scratch<AttentionGradient, AttentionBackward>(op, in, workers);
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
