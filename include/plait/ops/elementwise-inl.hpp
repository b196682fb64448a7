#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/reduce.hpp"

#include <cmath>

namespace plait {
namespace detail {

/// Whether x > 0, or x < 0, as 0 and 1 in x's dtype.
inline Tensor above_zero(Tensor const& x) { return cast(less(full({}, 0, x.dtype()), x), x.dtype()); }
inline Tensor below_zero(Tensor const& x) { return cast(less(x, full({}, 0, x.dtype())), x.dtype()); }

inline bool compares(BinaryFn fn) {
    return fn == BinaryFn::equal || fn == BinaryFn::not_equal || fn == BinaryFn::less;
}

}  // namespace detail

PLAIT_INLINE std::string_view name_of(UnaryFn fn) {
    constexpr std::string_view names[] = {"exp",    "log",      "sqrt",     "rsqrt",   "reciprocal",
                                          "square", "absolute", "tanh",     "sigmoid", "relu",
                                          "silu",   "gelu",     "is_finite"};
    return names[static_cast<std::size_t>(fn)];
}

PLAIT_INLINE std::string_view name_of(BinaryFn fn) {
    constexpr std::string_view names[] = {"add",     "subtract", "multiply",  "divide", "maximum",
                                          "minimum", "equal",    "not_equal", "less"};
    return names[static_cast<std::size_t>(fn)];
}

// Unary

PLAIT_INLINE Rule Unary::rule(Metas const& in) const { return parse_rule(name, "... -> ...", in); }
PLAIT_INLINE Metas Unary::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(detail::title(name, fn), in, {{"x", detail::floating}});
    return detail::outputs(r, {fn == UnaryFn::is_finite ? u8 : in[0].dtype});
}
PLAIT_INLINE Tensors Unary::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0] || fn == UnaryFn::is_finite) return {Tensor()};
    return apply(UnaryGradient{fn}, {x[0], cast(dy[0], x[0].dtype())});
}

PLAIT_INLINE Rule UnaryGradient::rule(Metas const& in) const {
    return parse_rule(name, "..., ... -> ...", in);
}
PLAIT_INLINE Metas UnaryGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto op = detail::title(name, fn);
    check<ShapeError>(fn != UnaryFn::is_finite, "{}: there is no such gradient", op);
    detail::want(op, in, {{"x", detail::floating}, {"dy", {in[0].dtype}}});
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors UnaryGradient::define(Tensors const& inputs) const {
    auto x = detail::widened(inputs[0]), dy = detail::widened(inputs[1]);
    auto slope = [&]() -> Tensor {
        switch (fn) {
            case UnaryFn::exp:
                return exp(x);
            case UnaryFn::log:
                return reciprocal(x);
            case UnaryFn::sqrt:
                return 0.5 * rsqrt(x);
            case UnaryFn::rsqrt:
                return -0.5 * rsqrt(x) / x;
            case UnaryFn::reciprocal:
                return -square(reciprocal(x));
            case UnaryFn::square:
                return 2.0 * x;
            case UnaryFn::absolute:
                return detail::above_zero(x) - detail::below_zero(x);
            case UnaryFn::tanh:
                return 1.0 - square(tanh(x));
            case UnaryFn::sigmoid:
                return sigmoid(x) * (1.0 - sigmoid(x));
            case UnaryFn::relu:
                return detail::above_zero(x);
            case UnaryFn::silu:
                return sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
            case UnaryFn::gelu: {
                double const c = std::sqrt(2 / 3.14159265358979323846), a = 0.044715;
                auto t = tanh(c * (x + a * (square(x) * x)));
                return 0.5 * (1.0 + t) + 0.5 * c * (x * (1.0 - square(t)) * (1.0 + 3 * a * square(x)));
            }
            case UnaryFn::is_finite:
                break;
        }
        fail("{}: there is no such gradient", detail::title(name, fn));
    };
    return {cast(dy * slope(), inputs[0].dtype())};
}

PLAIT_INLINE Rule Affine::rule(Metas const& in) const { return parse_rule(name, "... -> ...", in); }
PLAIT_INLINE Metas Affine::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"x", detail::floating}});
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors Affine::vjp(Tensors const&, Tensors const&, Tensors const& dy) const {
    return {dy[0] ? affine(dy[0], scale) : Tensor()};
}

// Binary

PLAIT_INLINE Rule Binary::rule(Metas const& in) const {
    detail::want_inputs(detail::title(name, fn), in, 2);
    int rank = std::max(in[0].shape.rank(), in[1].shape.rank());
    Rule r;
    r.like = {false, false};
    r.inputs.resize(2);
    r.outputs.resize(1);
    for (int i = 0; i < rank; ++i) {
        int dims[2];
        std::int64_t sizes[2];
        for (int k = 0; k < 2; ++k) {
            auto const& s = in[static_cast<std::size_t>(k)].shape;
            dims[k] = i - (rank - s.rank());
            sizes[k] = dims[k] < 0 ? 1 : s[dims[k]];
        }
        check<ShapeError>(
            sizes[0] == sizes[1] || sizes[0] == 1 || sizes[1] == 1,
            "{}({}): dim {} of the left has size {} but dim {} of the right has size {}: make them equal, "
            "or one of them 1, which is repeated",
            detail::title(name, fn), to_string(in), dims[0], sizes[0], dims[1], sizes[1]);
        auto size = sizes[0] == 1 ? sizes[1] : sizes[0];
        int f = detail::add_factor(r, std::to_string(i), size);
        r.outputs[0].push_back({f});
        for (std::size_t k = 0; k < 2; ++k)
            if (dims[k] >= 0) r.inputs[k].push_back(sizes[k] == size ? Rule::Dim{f} : Rule::Dim{});
    }
    r.passes = fn == BinaryFn::add && in[0].shape == in[1].shape;
    return r;
}
PLAIT_INLINE Metas Binary::infer(Metas const& in) const {
    auto r = rule(in);
    auto op = detail::title(name, fn);
    auto a = in[0].dtype, b = in[1].dtype;
    check<ShapeError>(is_floating(a) == is_floating(b),
                      "{}({}): one operand is floating, the other holds integers: cast one of them", op,
                      to_string(in));
    if (fn == BinaryFn::divide) detail::want(op, in, {{"the left", detail::floating}});
    auto wider = row_of(a).bits >= row_of(b).bits ? a : b;
    int more = in[0].shape.rank() - in[1].shape.rank();
    return detail::outputs(r, {detail::compares(fn) ? u8 : more > 0 ? a : more < 0 ? b : wider});
}
PLAIT_INLINE Tensors Binary::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    if (!dy[0] || detail::compares(fn)) return Tensors(2);
    auto const &a = x[0], &b = x[1], &d = dy[0];
    auto wins = [&](Tensor const& loser, Tensor const& winner) {
        return d * (cast(less(loser, winner), d.dtype()) + 0.5 * cast(equal(a, b), d.dtype()));
    };
    auto parts = [&]() -> Tensors {
        switch (fn) {
            case BinaryFn::add:
                return {d, d};
            case BinaryFn::subtract:
                return {d, -d};
            case BinaryFn::multiply:
                return {d * b, d * a};
            case BinaryFn::divide:
                return {d / b, -(d * y[0] / b)};
            case BinaryFn::maximum:
                return {wins(b, a), wins(a, b)};
            case BinaryFn::minimum:
                return {wins(a, b), wins(b, a)};
            default:
                return {};
        }
    }();
    Tensors dx(2);
    for (std::size_t i = 0; i < 2; ++i) {
        if (!is_floating(x[i].dtype())) continue;
        // What was summed stays in the sum's wider dtype.
        bool repeated = x[i].shape() != d.shape();
        dx[i] = repeated ? sum_to(parts[i], x[i].shape()) : cast(parts[i], x[i].dtype());
    }
    return dx;
}

PLAIT_INLINE Rule Cast::rule(Metas const& in) const { return parse_rule(name, "... -> ...", in); }
PLAIT_INLINE Metas Cast::infer(Metas const& in) const { return detail::outputs(rule(in), {dtype}); }
PLAIT_INLINE Tensors Cast::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    bool smooth = is_floating(dtype) && is_floating(x[0].dtype());
    return {dy[0] && smooth ? cast(dy[0], x[0].dtype()) : Tensor()};
}

PLAIT_INLINE Rule Select::rule(Metas const& in) const { return parse_rule(name, "..., ..., ... -> ...", in); }
PLAIT_INLINE Metas Select::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"the condition", {u8}}, {"a", {in[1].dtype}}, {"b", {in[1].dtype}}});
    return detail::outputs(r, {in[1].dtype});
}
PLAIT_INLINE Tensors Select::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0]) return Tensors(3);
    auto zeros = full_like(dy[0], 0);
    return {Tensor(), select(x[0], dy[0], zeros), select(x[0], zeros, dy[0])};
}

// Sources

PLAIT_INLINE Rule Full::rule(Metas const&) const { return detail::free_rule(shape); }
PLAIT_INLINE Metas Full::infer(Metas const& in) const {
    detail::want_inputs(name, in, 0);
    return {{dtype, shape}};
}
PLAIT_INLINE AnyOp Full::localized(Metas const&, Metas const& out) const {
    return Full{value, dtype, out[0].shape};
}

PLAIT_INLINE Rule Iota::rule(Metas const&) const { return detail::free_rule(shape); }
PLAIT_INLINE Metas Iota::infer(Metas const& in) const {
    detail::want_inputs(name, in, 0);
    detail::want_dims(name, in, shape, {dim});
    return {{dtype, shape}};
}
PLAIT_INLINE AnyOp Iota::localized(Metas const&, Metas const& out) const {
    return Iota{dim, dtype, out[0].shape};
}

// SwiGLU and dropout

PLAIT_INLINE Rule SwiGlu::rule(Metas const& in) const { return parse_rule(name, "..., ... -> ...", in); }
PLAIT_INLINE Metas SwiGlu::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"gate", detail::floating}, {"up", {in[0].dtype}}});
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors SwiGlu::define(Tensors const& x) const {
    return {cast(silu(detail::widened(x[0])) * detail::widened(x[1]), x[0].dtype())};
}
PLAIT_INLINE Tensors SwiGlu::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0]) return Tensors(2);
    return apply(SwiGluGradient{}, {x[0], x[1], cast(dy[0], x[0].dtype())});
}

PLAIT_INLINE Rule SwiGluGradient::rule(Metas const& in) const {
    return parse_rule(name, "..., ..., ... -> ..., ...", in);
}
PLAIT_INLINE Metas SwiGluGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype;
    detail::want(name, in, {{"gate", detail::floating}, {"up", {t}}, {"dy", {t}}});
    return detail::outputs(r, {t, t});
}
PLAIT_INLINE Tensors SwiGluGradient::define(Tensors const& x) const {
    auto gate = detail::widened(x[0]), up = detail::widened(x[1]), dy = detail::widened(x[2]);
    auto s = sigmoid(gate);
    return {cast(dy * up * (s * (1.0 + gate * (1.0 - s))), x[0].dtype()),
            cast(dy * (gate * s), x[0].dtype())};
}

PLAIT_INLINE Rule Dropout::rule(Metas const& in) const { return parse_rule(name, "..., !key -> ...", in); }
PLAIT_INLINE Metas Dropout::infer(Metas const& in) const {
    auto r = rule(in);
    check<ShapeError>(rate >= 0 && rate < 1, "{}: the rate is {}, want 0 <= rate < 1", name, rate);
    detail::want(name, in, {{"x", detail::floating}, {"the key", {i32}}});
    check<ShapeError>(in[1].shape == Shape{2}, "{}: the key is {}, want i32[2] (seed and step)", name,
                      to_string(in[1]));
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Tensors Dropout::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0]) return Tensors(2);
    return {apply_one(*this, {dy[0], x[1]}), Tensor()};
}

// Functions

PLAIT_INLINE Tensor exp(Tensor const& x) { return apply_one(Unary{UnaryFn::exp}, {x}); }
PLAIT_INLINE Tensor log(Tensor const& x) { return apply_one(Unary{UnaryFn::log}, {x}); }
PLAIT_INLINE Tensor sqrt(Tensor const& x) { return apply_one(Unary{UnaryFn::sqrt}, {x}); }
PLAIT_INLINE Tensor rsqrt(Tensor const& x) { return apply_one(Unary{UnaryFn::rsqrt}, {x}); }
PLAIT_INLINE Tensor reciprocal(Tensor const& x) { return apply_one(Unary{UnaryFn::reciprocal}, {x}); }
PLAIT_INLINE Tensor square(Tensor const& x) { return apply_one(Unary{UnaryFn::square}, {x}); }
PLAIT_INLINE Tensor absolute(Tensor const& x) { return apply_one(Unary{UnaryFn::absolute}, {x}); }
PLAIT_INLINE Tensor tanh(Tensor const& x) { return apply_one(Unary{UnaryFn::tanh}, {x}); }
PLAIT_INLINE Tensor sigmoid(Tensor const& x) { return apply_one(Unary{UnaryFn::sigmoid}, {x}); }
PLAIT_INLINE Tensor relu(Tensor const& x) { return apply_one(Unary{UnaryFn::relu}, {x}); }
PLAIT_INLINE Tensor silu(Tensor const& x) { return apply_one(Unary{UnaryFn::silu}, {x}); }
PLAIT_INLINE Tensor gelu(Tensor const& x) { return apply_one(Unary{UnaryFn::gelu}, {x}); }
PLAIT_INLINE Tensor is_finite(Tensor const& x) { return apply_one(Unary{UnaryFn::is_finite}, {x}); }
PLAIT_INLINE Tensor affine(Tensor const& x, double scale, double shift) {
    return scale == 1 && shift == 0 ? x : apply_one(Affine{scale, shift}, {x});
}
PLAIT_INLINE Tensor maximum(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::maximum}, {a, b});
}
PLAIT_INLINE Tensor minimum(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::minimum}, {a, b});
}
PLAIT_INLINE Tensor equal(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::equal}, {a, b});
}
PLAIT_INLINE Tensor not_equal(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::not_equal}, {a, b});
}
PLAIT_INLINE Tensor less(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::less}, {a, b});
}
PLAIT_INLINE Tensor cast(Tensor const& x, DType dtype) {
    return x && x.dtype() == dtype ? x : apply_one(Cast{dtype}, {x});
}
PLAIT_INLINE Tensor select(Tensor const& condition, Tensor const& a, Tensor const& b) {
    return apply_one(Select{}, {condition, a, b});
}
PLAIT_INLINE Tensor full(Shape shape, double value, DType dtype) {
    return apply_one(Full{value, dtype, shape}, {});
}
PLAIT_INLINE Tensor full_like(Tensor const& x, double value) { return full(x.shape(), value, x.dtype()); }
PLAIT_INLINE Tensor iota(Shape shape, int dim, DType dtype) {
    return apply_one(Iota{dim < 0 ? dim + shape.rank() : dim, dtype, shape}, {});
}
PLAIT_INLINE Tensor swiglu(Tensor const& gate, Tensor const& up) { return apply_one(SwiGlu{}, {gate, up}); }
PLAIT_INLINE Tensor dropout(Tensor const& x, double rate, Tensor const& key) {
    return rate == 0 ? x : apply_one(Dropout{rate, next_random_site()}, {x, key});
}

PLAIT_INLINE Tensor operator+(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::add}, {a, b});
}
PLAIT_INLINE Tensor operator-(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::subtract}, {a, b});
}
PLAIT_INLINE Tensor operator*(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::multiply}, {a, b});
}
PLAIT_INLINE Tensor operator/(Tensor const& a, Tensor const& b) {
    return apply_one(Binary{BinaryFn::divide}, {a, b});
}
PLAIT_INLINE Tensor operator-(Tensor const& x) { return affine(x, -1); }
PLAIT_INLINE Tensor operator+(Tensor const& x, double c) { return affine(x, 1, c); }
PLAIT_INLINE Tensor operator-(Tensor const& x, double c) { return affine(x, 1, -c); }
PLAIT_INLINE Tensor operator*(Tensor const& x, double c) { return affine(x, c); }
PLAIT_INLINE Tensor operator/(Tensor const& x, double c) { return affine(x, 1 / c); }
PLAIT_INLINE Tensor operator+(double c, Tensor const& x) { return affine(x, 1, c); }
PLAIT_INLINE Tensor operator-(double c, Tensor const& x) { return affine(x, -1, c); }
PLAIT_INLINE Tensor operator*(double c, Tensor const& x) { return affine(x, c); }
PLAIT_INLINE Tensor operator/(double c, Tensor const& x) { return affine(reciprocal(x), c); }

}  // namespace plait
