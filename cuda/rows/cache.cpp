#include "plait/ops/cache.hpp"

#include "cuda/launch.hpp"
#include "cuda/rows.hpp"
#include "cuda/rows/multiply.hpp"

namespace plait::cuda {
namespace {

CacheTokens tokens_of(KernelCall const& call, Buffer const& cache, Buffer const& slot,
                      Buffer const& positions) {
    return {.slot = slot.as<std::int32_t const>(),
            .positions = positions.as<std::int32_t const>(),
            .slots = cache.meta.shape[0],
            .length = cache.meta.shape[1],
            .n = positions.meta.shape[1],
            .fault = call.queue->fault()};
}

template <class From, class To>
void write(KernelCall const& call) {
    auto const& s = call.in[0].meta.shape;
    launch(*call.queue,
           CacheWriteRows<From, To>{.tokens = tokens_of(call, call.in[0], call.in[2], call.in[3]),
                                    .count = call.in[3].meta.elements(),
                                    .width = s[2] * s[3],
                                    .fresh = call.in[1].as<From const>(),
                                    .cache = call.out[0].as<To>()});
}
template <class Q, class K>
void attend(KernelCall const& call) {
    auto const &q = call.in[0].meta.shape, &k = call.in[1].meta.shape;
    using Kernel = CacheAttention<Q, K>;
    check(q[3] <= Kernel::widest,
          "{}: a head of {} numbers, and a GPU's kernel takes {}: use narrower heads or run on the CPU",
          call.op->text(), q[3], Kernel::widest);
    launch(*call.queue, Kernel{.tokens = tokens_of(call, call.in[1], call.in[3], call.in[4]),
                               .count = call.in[4].meta.elements(),
                               .heads = static_cast<int>(q[2]),
                               .kv_heads = static_cast<int>(k[2]),
                               .dim = static_cast<int>(q[3]),
                               .q = call.in[0].as<Q const>(),
                               .k = call.in[1].as<K const>(),
                               .v = call.in[2].as<K const>(),
                               .out = call.out[0].as<Q>()});
}

}  // namespace

void cache_write(KernelCall const& call) {
    auto const &old = call.in[0], &fresh = call.in[1], &y = call.out[0];
    want_computable(call, old.meta.dtype);
    want_computable(call, fresh.meta.dtype);
    if (y.data != old.data) call.queue->copy(y.data, old.data, y.meta.bytes());
    bool from_wide = fresh.meta.dtype == f32, to_wide = old.meta.dtype == f32;
    if (from_wide) to_wide ? write<float, float>(call) : write<float, Bf16>(call);
    else to_wide ? write<Bf16, float>(call) : write<Bf16, Bf16>(call);
}

void cached_attention(KernelCall const& call) {
    auto const q = call.in[0].meta.dtype, k = call.in[1].meta.dtype;
    want_computable(call, q);
    want_computable(call, k);
    if (q == bf16) attend<Bf16, Bf16>(call);
    else if (k == bf16) attend<float, Bf16>(call);
    else attend<float, float>(call);
}

}  // namespace plait::cuda
