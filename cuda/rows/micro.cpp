#include "plait/graph/micro.hpp"

#include "cuda/launch.hpp"
#include "cuda/rows/operands.hpp"
#include "plait/graph/parts.hpp"
#include "plait/ops/gradient_norm.hpp"

#include <bit>

namespace plait::cuda {

void fold_flat(KernelCall const& call, Buffer const& y, std::vector<Buffer> const& x, std::int64_t n,
               bool largest) {
    if (!is_floating(y.meta.dtype)) {
        for (std::size_t k = 1; k < x.size(); ++k) {
            Pointwise<std::int64_t> kernel{};
            kernel.function = largest ? PointFunction::maximum : PointFunction::add;
            kernel.inputs = 2;
            kernel.x[0] = source(call, k > 1 ? y : x[0]);
            kernel.x[1] = source(call, x[k]);
            kernel.y = target(call, y);
            kernel.n = n;
            add_dim<3>(kernel.walk, n, {1, 1, 1});
            launch(*call.queue, kernel);
        }
        if (x.size() == 1 && x[0].data != y.data)
            call.queue->copy(y.data, x[0].data, bytes_of(y.meta.dtype, n));
        return;
    }
    check(x.size() <= most_addends || y.meta.dtype == f32,
          "{}: a GPU adds at most {} tensors of bf16, here are {}: cast them to f32", call.op->text(),
          most_addends, x.size());
    with_floats(call, y.meta.dtype, [&](auto zero) {
        using T = decltype(zero);
        FoldMap<T> kernel{};
        kernel.largest = largest;
        kernel.y = y.as<T>();
        kernel.n = n;
        for (std::size_t k = 0; k < x.size(); ++k) {
            kernel.x[kernel.count++] = x[k].as<T const>();
            if (kernel.count < most_addends && k + 1 < x.size()) continue;
            launch(*call.queue, kernel);
            kernel.x[0] = y.as<T const>();
            kernel.count = 1;
        }
    });
}

void fold(KernelCall const& call) {
    fold_flat(call, call.out[0], {call.in.begin(), call.in.end()}, call.out[0].meta.elements(),
              call.attributes<Fold>().how == Combine::max);
}

void micro_take(KernelCall const& call) {
    Buffer const& y = call.out[0];
    int dim = call.attributes<MicroTake>().dim;
    copy_block(call, call.in[0], y, dim, call.micro * y.meta.shape[dim], false);
}

void micro_stack(KernelCall const& call) {
    Buffer const& x = call.in[0];
    int dim = call.attributes<MicroStack>().dim;
    copy_block(call, call.out[0], x, dim, call.micro * x.meta.shape[dim], true);
}

void part(KernelCall const& call) {
    auto const& op = call.attributes<Part>();
    copy_block(call, call.in[0], call.out[0], op.dim, op.start, false);
}

void join(KernelCall const& call) { put_side_by_side(call, call.attributes<Join>().dim); }

void leaf_tree(KernelCall const& call) {
    auto const& op = call.attributes<LeafTree>();
    auto const &x = call.in[0], &y = call.out[0];
    auto const n = y.meta.elements();
    with_floats(call, y.meta.dtype, [&](auto zero) {
        using T = decltype(zero);
        auto launch_of = [&]<int levels>(std::integral_constant<int, levels>) {
            launch(*call.queue, TreeSum<T, levels>{.rows = x.as<T const>(),
                                                   .stride = n,
                                                   .own = x.as<T const>(),
                                                   .rank = 0,
                                                   .ranks = static_cast<int>(op.count / op.chain),
                                                   .max = false,
                                                   .out = y.as<T>(),
                                                   .n = n,
                                                   .chain = static_cast<int>(op.chain)});
        };
        if (op.count / op.chain < 4 << few_levels) launch_of(std::integral_constant<int, few_levels>());
        else launch_of(std::integral_constant<int, most_levels>());
    });
}

void micro_sum(KernelCall const& call) {
    Buffer const &x = call.in[0], &total = call.out[0];
    if (call.accumulate & 1) fold_flat(call, total, {total, x}, total.meta.elements(), false);
    else if (x.data != total.data) call.queue->copy(total.data, x.data, x.meta.bytes());
}

/// In one pass: the new addends, then the left sides that they complete; what comes out waits or is the sum.
void micro_tree(KernelCall const& call) {
    auto const& op = call.attributes<MicroTree>();
    Buffer const &x = call.in[0], &total = call.out[0], &pending = call.out[1];
    if (!is_floating(x.meta.dtype)) unsupported(call, x.meta.dtype);
    auto links = static_cast<std::int64_t>(call.in.size());
    std::int64_t n = x.meta.elements(), done = call.micro * links, link = done % op.chain;
    auto level = [&](std::int64_t k) {
        return Buffer{pending.data + bytes_of(pending.meta.dtype, k * n), x.meta, {}};
    };
    bool complete = link + links == op.chain;
    std::int64_t left = complete ? std::countr_one(static_cast<std::uint64_t>(done / op.chain)) : 0;
    std::vector<Buffer> addends;
    if (link) addends.push_back(total);
    addends.insert(addends.end(), call.in.begin(), call.in.end());
    for (std::int64_t k = 0; k < left; ++k) addends.push_back(level(k));
    fold_flat(call, complete && left < op.levels ? level(left) : total, addends, n, false);
}

}  // namespace plait::cuda
