#include "plait/ops/reduce.hpp"

#include "cuda/rows/operands.hpp"

#include <algorithm>

namespace plait::cuda {
namespace {

/// One pass of a reduction: [before, size, after] -> [before, after]. `size` is cut into chunks whose results
/// are folded in order, so the bits depend on `size` alone, and on whether the reduced dims are the last: a
/// block of the other dims has the bits that it has in the whole.
struct Step {
    std::int64_t before = 1, size = 1, after = 1;
    bool last = false;  // the reduced dims are the last ones: `size` elements lie side by side

    std::int64_t chunk() const { return last ? 16384 : std::max<std::int64_t>(64, pieces(size, 256)); }
    std::int64_t chunks() const { return std::max<std::int64_t>(1, pieces(size, chunk())); }
    /// Elements of the chunks' results, where there is more than one.
    std::int64_t partials() const { return chunks() > 1 ? before * chunks() * after : 0; }
};

/// The passes of a reduction, one for each run of neighbouring reduced dims, innermost first.
struct Plan {
    std::vector<Step> steps;
    std::int64_t partials = 0, between = 0;  // elements: of one pass, and from pass to pass

    Plan(Shape const& s, std::vector<int> const& dims) {
        std::int64_t kept = 1, run = 1, before = s.elements();
        bool last = true;
        auto flush = [&] {
            if (run != 1) steps.push_back({before, run, kept, last});
            run = 1;
        };
        for (int d = s.rank() - 1; d >= 0; --d) {
            bool reduced = std::find(dims.begin(), dims.end(), d) != dims.end();
            if (!reduced) flush(), last = false;
            before = elements(s, 0, d);
            (reduced ? run : kept) *= s[d];
        }
        flush();
        for (std::size_t i = 0; i < steps.size(); ++i) {
            partials = std::max(partials, steps[i].partials());
            if (i + 1 < steps.size()) between = std::max(between, steps[i].before * steps[i].after);
        }
    }
};

/// Folds chunks of `chunk` of `size`.
template <class F, class In>
void fold_chunks(Queue& queue, In const& x, Target y, Step const& step, std::int64_t size, std::int64_t chunk,
                 std::int64_t chunks, bool add) {
    if (step.last) {
        bool whole = smaller(size, chunk) > 1024;
        launch(queue, ReduceRows<In, F>{x, y, step.before, size, chunk, chunks, whole, add});
    } else {
        int ways = smaller(size, chunk) >= 64 ? ReduceColumns<In, F>::most_ways : 1;
        launch(queue, ReduceColumns<In, F>{x, y, step.before, size, step.after, chunk, chunks, ways, add});
    }
}

/// From an input of any kind, by way of `Between` ones.
template <class F, class In, class Between>
void fold_step(Queue& queue, In const& x, Target y, Step const& step, Target partials, bool add) {
    std::int64_t chunk = step.chunk(), chunks = step.chunks();
    if (chunks == 1) return fold_chunks<F>(queue, x, y, step, step.size, chunk, 1, add);
    fold_chunks<F>(queue, x, partials, step, step.size, chunk, chunks, false);
    Between results{};
    if constexpr (std::is_same_v<Between, IntegerInput>) results.x = partials.source();
    else results.x = static_cast<float const*>(partials.data);
    fold_chunks<F>(queue, results, y, step, chunks, chunks, 1, add);
}

template <class F, class In, class Between>
void fold_dims(KernelCall const& call, Plan const& plan, In const& x, Type wide) {
    Target y = target(call, call.out[0]), partials{call.workspace, wide};
    Target between[2];
    between[0] = {call.workspace + padded(plan.partials * 8), wide};
    between[1] = {call.workspace + padded(plan.partials * 8) + padded(plan.between * 8), wide};
    auto count = plan.steps.size();
    for (std::size_t i = 0; i < count; ++i) {
        bool last = i + 1 == count, add = last && (call.accumulate & 1);
        Target to = last ? y : between[i % 2];
        if (i == 0) {
            fold_step<F, In, Between>(*call.queue, x, to, plan.steps[i], partials, add);
            continue;
        }
        Between from{};
        if constexpr (std::is_same_v<Between, IntegerInput>) from.x = between[(i - 1) % 2].source();
        else from.x = static_cast<float const*>(between[(i - 1) % 2].data);
        fold_step<F, Between, Between>(*call.queue, from, to, plan.steps[i], partials, add);
    }
}

template <class F>
void fold_all(KernelCall const& call, Plan const& plan) {
    Buffer const& x = call.in[0];
    if (!is_floating(x.meta.dtype))
        return fold_dims<F, IntegerInput, IntegerInput>(call, plan, IntegerInput{source(call, x)}, Type::i64);
    with_floats(call, x.meta.dtype, [&](auto zero) {
        using T = decltype(zero);
        fold_dims<F, FloatInput<T>, FloatInput<float>>(call, plan, FloatInput<T>{x.as<T const>()}, Type::f32);
    });
}

/// y += x
template <class C>
void add_to(KernelCall const& call) {
    Pointwise<C> kernel{};
    kernel.function = PointFunction::add;
    kernel.inputs = 2;
    kernel.y = target(call, call.out[0]);
    kernel.x[0] = kernel.y.source();
    kernel.x[1] = source(call, call.in[0]);
    kernel.n = call.out[0].meta.elements();
    add_dim<3>(kernel.walk, kernel.n, {1, 1, 1});
    launch(*call.queue, kernel);
}

}  // namespace

void reduce(KernelCall const& call) {
    auto const& op = call.attributes<Reduce>();
    Plan plan(call.in[0].meta.shape, op.dims);
    if (!plan.steps.empty()) {
        if (op.fn == ReduceFn::sum) fold_all<Sum>(call, plan);
        else fold_all<Largest>(call, plan);
    } else if (!(call.accumulate & 1)) {
        cast(call);
    } else if (is_floating(call.in[0].meta.dtype)) {
        add_to<float>(call);
    } else {
        add_to<std::int64_t>(call);
    }
}
std::int64_t reduce_workspace(AnyOp const& op, Metas const& in, Metas const&, int) {
    Plan plan(in[0].shape, op.as<Reduce>()->dims);
    return padded(plan.partials * 8) + 2 * padded(plan.between * 8);
}

void softmax(KernelCall const& call) {
    Buffer const& x = call.in[0];
    std::int64_t n = x.meta.shape.back();
    if (n == 0) return;
    with_floats(call, x.meta.dtype, [&](auto zero) {
        using T = decltype(zero);
        launch(*call.queue, SoftmaxRows<T>{x.as<T const>(), call.out[0].as<T>(), x.meta.elements() / n, n});
    });
}

void softmax_gradient(KernelCall const& call) {
    Buffer const& y = call.in[0];
    std::int64_t n = y.meta.shape.back();
    if (n == 0) return;
    with_floats(call, y.meta.dtype, [&](auto zero) {
        using T = decltype(zero);
        launch(*call.queue, SoftmaxGradientRows<T>{y.as<T const>(), call.in[1].as<T const>(),
                                                   call.out[0].as<T>(), y.meta.elements() / n, n});
    });
}

}  // namespace plait::cuda
