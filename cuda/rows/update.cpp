#include "plait/ops/update.hpp"

#include "cuda/rows/operands.hpp"
#include "plait/ops/gradient_norm.hpp"

#include <memory>
#include <vector>

namespace plait::cuda {

namespace {

/// f(first, others): the calls, divided into groups of which all are `alike`.
template <class Alike, class F>
void for_groups(std::span<KernelCall const> calls, Alike&& alike, F&& f) {
    std::vector<bool> done(calls.size());
    for (std::size_t i = 0; i < calls.size(); ++i) {
        if (done[i]) continue;
        std::vector<KernelCall const*> group;
        for (auto k = i; k < calls.size(); ++k)
            if (!done[k] && alike(calls[i], calls[k])) {
                group.push_back(&calls[k]);
                done[k] = true;
            }
        f(group);
    }
}

/// Launches `kernel` over all of a group, as often as it takes; tell(call, add) adds to its `Many`.
template <class K, class M, class Tell>
void launch_many(K& kernel, M K::*many, std::vector<KernelCall const*> const& group, Tell&& tell) {
    auto& list = kernel.*many;
    list.count = list.blocks = 0;
    auto send = [&](KernelCall const& call) {
        launch(*call.queue, kernel);
        list.count = list.blocks = 0;
    };
    for (auto const* call : group)
        tell(*call, [&](auto const& one) {
            if (list.full()) send(*call);
            list.add(one);
        });
    if (list.count > 0) send(*group.back());
}

void clear(std::vector<KernelCall const*> const& group, int words) {
    Clear kernel{.count = 0, .words = words, .of = {}};
    for (auto const* call : group) {
        kernel.of[kernel.count++] = call->out[0].as<std::uint32_t>();
        if (kernel.count < Clear::most && call != group.back()) continue;
        launch(*call->queue, kernel);
        kernel.count = 0;
    }
}

template <class P, class G, class M>
Parameter<P, G, M> whole_parameter(KernelCall const& call) {
    auto const *in = call.in.data(), *out = call.out.data();
    return {.p = in[0].as<P const>(),
            .g = in[1].as<G const>(),
            .m = in[2].as<M const>(),
            .v = in[3].as<M const>(),
            .to_p = out[0].as<P>(),
            .to_m = out[1].as<M>(),
            .to_v = out[2].as<M>(),
            .n = in[0].meta.elements(),
            .decay = static_cast<float>(call.attributes<AdamWUpdate>().decay),
            .first = 0};
}

/// f(parameter) for a parameter that random bits round, or for each slice of a block that two strides do not
/// describe.
template <class P, class G, class M, class F>
void for_slices(KernelCall const& call, F&& f) {
    Strides<1> walk{};
    auto start = add_logical_dims(walk, call.out[0]);
    auto whole = whole_parameter<P, G, M>(call);
    int last = walk.rank - 1;
    Parameter<P, G, M, true> slice{whole, call.attributes<AdamWUpdate>().site, start, whole.n, 0};
    if (last > 0 || (last == 0 && walk.stride[0][0] != 1)) {
        // The last dim that has neighbours is the run, the one around it the rows.
        bool runs = walk.stride[0][last] == 1;
        int rows = runs ? last - 1 : last;
        slice.run = runs ? walk.size[last] : 1;
        slice.stride = walk.stride[0][rows];
        slice.n = slice.run * walk.size[rows];
        walk.rank = rows;
    } else {
        walk.rank = 0;
    }
    for (std::int64_t at = 0; at < whole.n; at += slice.n) {
        std::int64_t number[1] = {start};
        if (walk.rank > 0) walk.find(at / slice.n, number);
        slice.start = number[0];
        slice.p = whole.p + at, slice.g = whole.g + at, slice.m = whole.m + at, slice.v = whole.v + at;
        slice.to_p = whole.to_p + at, slice.to_m = whole.to_m + at, slice.to_v = whole.to_v + at;
        f(slice);
    }
}

template <class P, class G, class M, bool stochastic>
void adamw_of(std::vector<KernelCall const*> const& group) {
    auto const& first = *group.front();
    auto const& op = first.attributes<AdamWUpdate>();
    using K = AdamW<P, G, M, stochastic>;
    auto kernel = std::make_unique<K>();  // of 32 KiB
    Buffer const* in = first.in.data();
    kernel->rate = in[4].as<float const>();
    kernel->step = in[5].as<std::int32_t const>();
    kernel->scale = op.scaled ? in[op.scale_input()].as<float const>() : nullptr;
    kernel->guard = op.guarded ? in[op.guard_input()].as<std::uint8_t const>() : nullptr;
    kernel->key = op.stochastic ? in[6].as<std::int32_t const>() : nullptr;
    kernel->beta1 = op.beta1;
    kernel->beta2 = op.beta2;
    kernel->eps = static_cast<float>(op.eps);
    launch_many(*kernel, &K::parameters, group, [](KernelCall const& call, auto&& add) {
        if constexpr (stochastic) for_slices<P, G, M>(call, add);
        else add(whole_parameter<P, G, M>(call));
    });
}

/// Whether one launch can serve both: all but the parameter and its decay are the same.
bool alike_updates(KernelCall const& a, KernelCall const& b) {
    auto x = a.attributes<AdamWUpdate>(), y = b.attributes<AdamWUpdate>();
    if (x.beta1 != y.beta1 || x.beta2 != y.beta2 || x.eps != y.eps || x.scaled != y.scaled ||
        x.guarded != y.guarded || x.stochastic != y.stochastic || a.in.size() != b.in.size())
        return false;
    for (std::size_t i = 0; i < a.in.size(); ++i) {
        if (a.in[i].meta.dtype != b.in[i].meta.dtype) return false;
        if (i >= 4 && a.in[i].data != b.in[i].data) return false;
    }
    return true;
}

bool alike_gradients(KernelCall const& a, KernelCall const& b) {
    return a.in[0].meta.dtype == b.in[0].meta.dtype;
}
bool alike_squares(KernelCall const& a, KernelCall const& b) {
    return alike_gradients(a, b) && a.in[1].data == b.in[1].data &&
           a.attributes<plait::Squares>().bits == b.attributes<plait::Squares>().bits;
}

template <class T, class Out, class Add>
void add_gradient(KernelCall const& call, Add&& add) {
    add(Gradient<T, Out>{call.in[0].as<T const>(), call.out[0].as<Out>(), call.in[0].meta.elements(), 0});
}

}  // namespace

void adamw_many(std::span<KernelCall const> calls) {
    for_groups(calls, alike_updates, [](std::vector<KernelCall const*> const& group) {
        auto const& call = *group.front();
        with_floats(call, call.in[0].meta.dtype, [&]<class P>(P) {
            with_floats(call, call.in[1].meta.dtype, [&]<class G>(G) {
                with_floats(call, call.in[2].meta.dtype, [&]<class M>(M) {
                    // A parameter of f32 has all of them in f32.
                    if constexpr (sizeof(P) == 2)
                        call.attributes<AdamWUpdate>().stochastic ? adamw_of<P, G, M, true>(group)
                                                                  : adamw_of<P, G, M, false>(group);
                    else if constexpr (sizeof(G) == 4 && sizeof(M) == 4) adamw_of<P, G, M, false>(group);
                    else unsupported(call, call.in[sizeof(G) == 4 ? 2 : 1].meta.dtype);
                });
            });
        });
    });
}
void adamw(KernelCall const& call) { adamw_many({&call, 1}); }

void max_absolute_many(std::span<KernelCall const> calls) {
    for_groups(calls, alike_gradients, [](std::vector<KernelCall const*> const& group) {
        auto const& call = *group.front();
        clear(group, 1);
        with_floats(call, call.in[0].meta.dtype, [&]<class T>(T) {
            auto kernel = std::make_unique<MaxAbsolute<T>>();
            launch_many(*kernel, &MaxAbsolute<T>::gradients, group,
                        [](auto const& one, auto&& add) { add_gradient<T, std::uint32_t>(one, add); });
        });
    });
}
void max_absolute(KernelCall const& call) { max_absolute_many({&call, 1}); }

void squares_many(std::span<KernelCall const> calls) {
    for_groups(calls, alike_squares, [](std::vector<KernelCall const*> const& group) {
        auto const& call = *group.front();
        clear(group, 4);
        with_floats(call, call.in[0].meta.dtype, [&]<class T>(T) {
            auto kernel = std::make_unique<Squares<T>>();
            kernel->m = call.in[1].as<float const>();
            kernel->bits = call.attributes<plait::Squares>().bits;
            launch_many(*kernel, &Squares<T>::gradients, group,
                        [](auto const& one, auto&& add) { add_gradient<T, std::int64_t>(one, add); });
        });
    });
}
void squares(KernelCall const& call) { squares_many({&call, 1}); }

void norm_of_squares(KernelCall const& call) {
    if (call.in[1].meta.dtype != f32) unsupported(call, call.in[1].meta.dtype);
    launch(*call.queue, NormOfSquares{.sums = call.in[0].as<std::int64_t const>(),
                                      .m = call.in[1].as<float const>(),
                                      .norm = call.out[0].as<float>(),
                                      .bits = call.attributes<plait::NormOfSquares>().bits});
}

}  // namespace plait::cuda
