#include "plait/ops/elementwise.hpp"

#include "cuda/rows/operands.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace plait::cuda {
namespace {

static_assert(static_cast<int>(UnaryFn::gelu) == static_cast<int>(UnaryFunction::gelu));
static_assert(static_cast<int>(BinaryFn::less) == static_cast<int>(BinaryFunction::less));
static_assert(static_cast<int>(BinaryFn::less) == static_cast<int>(PointFunction::less));

template <class F>
void map(KernelCall const& call) {
    with_floats(call, call.in[0].meta.dtype, [&](auto zero) {
        using T = decltype(zero);
        Map<F, T> kernel{};
        for (std::size_t k = 0; k < F::inputs; ++k) kernel.x[k] = call.in[k].as<T const>();
        for (std::size_t k = 0; k < F::outputs; ++k) kernel.y[k] = call.out[k].as<T>();
        kernel.n = call.out[0].meta.elements();
        launch(*call.queue, kernel);
    });
}

void map_unary(KernelCall const& call, UnaryFunction function, double scale = 1, double shift = 0) {
    with_floats(call, call.in[0].meta.dtype, [&](auto zero) {
        using T = decltype(zero);
        launch(*call.queue,
               UnaryMap<T>{function, static_cast<float>(scale), static_cast<float>(shift),
                           call.in[0].as<T const>(), call.out[0].as<T>(), call.out[0].meta.elements()});
    });
}

/// What is computed in C, element by element, of inputs that lie as `walk` says.
template <class C>
void points(KernelCall const& call, PointFunction function, int inputs, Strides<3> const& walk) {
    Buffer const& y = call.out[0];
    Pointwise<C> kernel{};
    kernel.function = function;
    kernel.inputs = inputs;
    for (int k = 0; k < inputs; ++k) kernel.x[k] = source(call, call.in[static_cast<std::size_t>(k)]);
    kernel.y = target(call, y);
    kernel.n = y.meta.elements();
    kernel.walk = walk;
    launch(*call.queue, kernel);
}
void points(KernelCall const& call, PointFunction function, int inputs, Strides<3> const& walk) {
    bool floats = false;
    for (int k = 0; k < inputs; ++k) floats |= is_floating(call.in[static_cast<std::size_t>(k)].meta.dtype);
    if (floats) points<float>(call, function, inputs, walk);
    else points<std::int64_t>(call, function, inputs, walk);
}
/// Of inputs that lie as the output does.
Strides<3> flat(std::int64_t n) {
    Strides<3> walk{};
    add_dim<3>(walk, n, {1, 1, 1});
    return walk;
}

/// y = fn(a, b) by packs, where y has a's dtype.
template <class A, class B>
void binary_by_packs(KernelCall const& call, BinaryFn fn, bool swapped, Strides<2> walk) {
    BinaryMap<A, B> kernel{};
    kernel.function = static_cast<BinaryFunction>(fn);
    kernel.swapped = swapped;
    kernel.a = call.in[swapped].as<A const>();
    kernel.b = call.in[!swapped].as<B const>();
    kernel.y = call.out[0].as<A>();
    if (swapped) std::swap(walk.stride[0], walk.stride[1]);
    kernel.rows = kernel.columns = 1;
    if (walk.rank > 0) {
        int last = --walk.rank;
        kernel.columns = walk.size[last];
        kernel.stride_a = walk.stride[0][last];
        kernel.stride_b = walk.stride[1][last];
        for (int d = 0; d < last; ++d) kernel.rows *= walk.size[d];
    }
    kernel.outer = walk;
    launch(*call.queue, kernel);
}

}  // namespace

void unary(KernelCall const& call) {
    auto fn = call.attributes<Unary>().fn;
    if (fn == UnaryFn::gelu) return map<Gelu>(call);
    if (fn == UnaryFn::is_finite) {
        if (!is_floating(call.in[0].meta.dtype)) unsupported(call, call.in[0].meta.dtype);
        return points<float>(call, PointFunction::is_finite, 1, flat(call.out[0].meta.elements()));
    }
    map_unary(call, static_cast<UnaryFunction>(fn));
}

void unary_gradient(KernelCall const& call) {
    auto fn = call.attributes<UnaryGradient>().fn;
    if (fn == UnaryFn::gelu) return map<GeluGradient>(call);
    with_floats(call, call.in[0].meta.dtype, [&](auto zero) {
        using T = decltype(zero);
        launch(*call.queue, UnaryGradientMap<T>{static_cast<UnaryFunction>(fn), call.in[0].as<T const>(),
                                                call.in[1].as<T const>(), call.out[0].as<T>(),
                                                call.out[0].meta.elements()});
    });
}

void affine(KernelCall const& call) {
    auto const& op = call.attributes<Affine>();
    map_unary(call, UnaryFunction::affine, op.scale, op.shift);
}

void swiglu(KernelCall const& call) { map<SwiGlu>(call); }
void swiglu_gradient(KernelCall const& call) { map<SwiGluGradient>(call); }

void binary(KernelCall const& call) {
    auto fn = call.attributes<Binary>().fn;
    Buffer const &a = call.in[0], &b = call.in[1], &y = call.out[0];
    Shape const& s = y.meta.shape;
    // Strides from the last dim outwards, then the walk from the first one inwards.
    std::array<std::int64_t, 2> stride[Shape::max_rank], dense{1, 1};
    for (int d = s.rank() - 1; d >= 0; --d)
        for (std::size_t k = 0; k < 2; ++k) {
            Shape const& own = call.in[k].meta.shape;
            int i = d - (s.rank() - own.rank());
            std::int64_t size = i < 0 ? 1 : own[i];
            stride[d][k] = size == 1 ? 0 : dense[k];
            dense[k] *= size;
        }
    auto is = [](Buffer const& x, DType t) { return x.meta.dtype == t; };
    auto packed = [&](Buffer const& x) { return is(x, f32) || is(x, bf16); };
    if (packed(a) && packed(b) && fn < BinaryFn::equal) {
        Strides<2> walk{};
        for (int d = 0; d < s.rank(); ++d) add_dim<2>(walk, s[d], stride[d]);
        bool swapped = a.meta.dtype != y.meta.dtype;
        return with_floats(call, y.meta.dtype, [&](auto like_y) {
            with_floats(call, (swapped ? a : b).meta.dtype, [&](auto other) {
                binary_by_packs<decltype(like_y), decltype(other)>(call, fn, swapped, walk);
            });
        });
    }
    if (fn == BinaryFn::divide && !is_floating(a.meta.dtype)) unsupported(call, a.meta.dtype);
    Strides<3> walk{};
    for (int d = 0; d < s.rank(); ++d) add_dim<3>(walk, s[d], {stride[d][0], stride[d][1], 0});
    points(call, static_cast<PointFunction>(fn), 2, walk);
}

void cast(KernelCall const& call) {
    Buffer const &x = call.in[0], &y = call.out[0];
    auto from = x.meta.dtype, to = y.meta.dtype;
    std::int64_t n = y.meta.elements();
    if (from == to) {
        if (x.data != y.data) call.queue->copy(y.data, x.data, y.meta.bytes());
    } else if (from == f32 && to == bf16) {
        launch(*call.queue, Map<Copy, float, Bf16>{{x.as<float const>()}, {y.as<Bf16>()}, n});
    } else if (from == bf16 && to == f32) {
        launch(*call.queue, Map<Copy, Bf16, float>{{x.as<Bf16 const>()}, {y.as<float>()}, n});
    } else {
        points(call, PointFunction::copy, 1, flat(n));
    }
}

void select(KernelCall const& call) {
    auto walk = flat(call.out[0].meta.elements());
    if (is_floating(call.out[0].meta.dtype)) points<float>(call, PointFunction::select, 3, walk);
    else points<std::int64_t>(call, PointFunction::select, 3, walk);
}

void expand(KernelCall const& call) {
    auto const& dims = call.attributes<Expand>().dims;
    Buffer const &x = call.in[0], &y = call.out[0];
    Shape const& s = y.meta.shape;
    std::int64_t stride[Shape::max_rank], dense = 1;
    for (int d = s.rank() - 1; d >= 0; --d) {
        bool repeated = std::find(dims.begin(), dims.end(), d) != dims.end();
        stride[d] = repeated ? 0 : dense;
        if (!repeated) dense *= s[d];
    }
    if (x.meta.dtype == y.meta.dtype) {
        Strides<2> walk{};
        std::int64_t size = bytes_of(y.meta.dtype, 1);
        for (int d = 0; d < s.rank(); ++d)
            add_dim<2>(walk, s[d], {stride[d] * size, elements(s, d + 1, s.rank()) * size});
        return copy_by(*call.queue, y.data, x.data, walk, size);
    }
    Strides<3> walk{};
    for (int d = 0; d < s.rank(); ++d) add_dim<3>(walk, s[d], {stride[d], 0, 0});
    points(call, PointFunction::copy, 1, walk);
}

void full(KernelCall const& call) {
    Buffer const& y = call.out[0];
    double value = call.attributes<Full>().value;
    int size = static_cast<int>(bytes_of(y.meta.dtype, 1));
    std::byte one[8] = {};
    auto put = [&](auto x) { std::memcpy(one, &x, sizeof x); };
    switch (type_of(call, y.meta.dtype)) {
        case Type::f32:
            put(static_cast<float>(value));
            break;
        case Type::bf16:
            put(plait::Bf16(static_cast<float>(value)));
            break;
        case Type::i32:
            put(static_cast<std::int32_t>(value));
            break;
        case Type::i64:
            put(static_cast<std::int64_t>(value));
            break;
        case Type::u8:
            put(static_cast<std::uint8_t>(value));
            break;
    }
    if (std::all_of(one, one + size, [&](std::byte b) { return b == one[0]; }))
        return call.queue->fill(y.data, static_cast<std::uint8_t>(one[0]), y.meta.bytes());
    Fill kernel{.to = y.data, .word = {}, .bytes = y.meta.bytes(), .size = size};
    for (int i = 0; i < 16; i += size)
        std::memcpy(reinterpret_cast<std::byte*>(&kernel.word) + i, one, static_cast<std::size_t>(size));
    launch(*call.queue, kernel);
}

void iota(KernelCall const& call) {
    int dim = call.attributes<Iota>().dim;
    Buffer const& y = call.out[0];
    Shape const& s = y.meta.shape;
    Pointwise<std::int64_t> kernel{};
    kernel.function = PointFunction::index;
    kernel.y = target(call, y);
    kernel.n = y.meta.elements();
    kernel.size = s[dim];
    kernel.inner = elements(s, dim + 1, s.rank());
    kernel.origin = y.block.origin.empty() ? 0 : y.block.origin[dim];
    launch(*call.queue, kernel);
}

namespace {

template <class T, class Y = T, class F>
void random_map(KernelCall const& call, F const& f, std::uint64_t site) {
    Buffer const& y = call.out[0];
    RandomMap<F, T, Y> kernel{};
    kernel.f = f;
    kernel.x = call.in[0].as<T const>();
    kernel.y = y.as<Y>();
    kernel.n = y.meta.elements();
    kernel.key = call.in[1].as<std::int32_t const>();
    kernel.site = site;
    kernel.start = add_logical_dims(kernel.walk, y);
    // Whether every pack is a run of the logical tensor that starts at a multiple of four.
    auto const& walk = kernel.walk;
    int last = walk.rank - 1;
    kernel.packed = kernel.start % 4 == 0;
    for (int d = 0; d < last; ++d) kernel.packed &= walk.stride[0][d] % 4 == 0;
    if (last >= 0) kernel.packed &= walk.stride[0][last] == 1;
    if (last > 0) kernel.packed &= walk.size[last] % kernel.lanes == 0;
    launch(*call.queue, kernel);
}

}  // namespace

void dropout(KernelCall const& call) {
    auto const& op = call.attributes<Dropout>();
    with_floats(call, call.in[0].meta.dtype, [&]<class T>(T) {
        random_map<T>(call,
                      Dropped{.least = static_cast<std::uint32_t>(std::ceil(op.rate * 0x1p24)),
                              .scale = static_cast<float>(1 / (1 - op.rate))},
                      op.site);
    });
}

void stochastic_round(KernelCall const& call) {
    if (call.in[0].meta.dtype != f32) unsupported(call, call.in[0].meta.dtype);
    random_map<float, Bf16>(call, RoundedAtRandom{}, call.attributes<StochasticRound>().site);
}

}  // namespace plait::cuda
