#pragma once

#include "plait/tensor.hpp"

#include <cstdint>
#include <string_view>

namespace plait {

enum class UnaryFn : std::uint8_t {
    exp,
    log,
    sqrt,
    rsqrt,
    reciprocal,
    square,
    absolute,
    tanh,
    sigmoid,
    relu,
    silu,
    gelu,
    is_finite
};
std::string_view name_of(UnaryFn fn);

/// y = fn(x), element by element: [...] -> [...]. `gelu` is the tanh form of GPT-2; `is_finite` gives u8.
struct Unary {
    static constexpr std::string_view name = "unary";
    UnaryFn fn;
    using fields = Fields<&Unary::fn>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// dx = dy * fn'(x): (x, dy) -> dx. Differentiated again through its definition.
struct UnaryGradient {
    static constexpr std::string_view name = "unary_gradient";
    UnaryFn fn;
    using fields = Fields<&UnaryGradient::fn>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}, {0, 1}}; }
    Tensors define(Tensors const& x) const;
};

/// y = scale * x + shift, with constants known at record time.
struct Affine {
    static constexpr std::string_view name = "affine";
    double scale = 1, shift = 0;
    using fields = Fields<&Affine::scale, &Affine::shift>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

enum class BinaryFn : std::uint8_t {
    add,
    subtract,
    multiply,
    divide,
    maximum,
    minimum,
    equal,
    not_equal,
    less
};
std::string_view name_of(BinaryFn fn);

/// y = fn(a, b). Shapes are aligned at the right; a missing dim or one of size 1 is repeated. Comparisons
/// give u8. The dtype is the wider one's when the ranks are equal, else that of the operand with more dims,
/// so that a scalar or a gain does not widen a tensor.
struct Binary {
    static constexpr std::string_view name = "binary";
    BinaryFn fn;
    using fields = Fields<&Binary::fn>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}, {0, 1}}; }
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// y = x in another dtype.
struct Cast {
    static constexpr std::string_view name = "cast";
    DType dtype = DType::f32;
    using fields = Fields<&Cast::dtype>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// y = condition ? a : b, all three of one shape; `condition` is u8, a and b of one dtype.
struct Select {
    static constexpr std::string_view name = "select";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 1}, {0, 2}}; }
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// A tensor of one value: () -> [shape].
struct Full {
    static constexpr std::string_view name = "full";
    double value = 0;
    DType dtype = DType::f32;
    Shape shape{};
    using fields = Fields<&Full::value, &Full::dtype, &Full::shape>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    AnyOp localized(Metas const& in, Metas const& out) const;
};

/// The index along `dim` of each element, counted in the logical tensor: () -> [shape].
struct Iota {
    static constexpr std::string_view name = "iota";
    int dim = 0;
    DType dtype = DType::i32;
    Shape shape{};
    using fields = Fields<&Iota::dim, &Iota::dtype, &Iota::shape>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    AnyOp localized(Metas const& in, Metas const& out) const;
};

/// silu(gate) * up: ([...], [...]) -> [...]. Shazeer, "GLU variants improve transformer", 2020.
struct SwiGlu {
    static constexpr std::string_view name = "swiglu";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}, {0, 1}}; }
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// (gate, up, dy) -> (dgate, dup).
struct SwiGluGradient {
    static constexpr std::string_view name = "swiglu_gradient";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}, {1, 1}}; }
    Tensors define(Tensors const& x) const;
};

/// Keeps each element with probability 1 - rate and divides it by that: (x, key) -> y. `key` is i32[2]: seed
/// and step. The mask depends on (key, site, logical element index) alone, so backward makes it again.
struct Dropout {
    static constexpr std::string_view name = "dropout";
    double rate = 0;
    std::uint64_t site = 0;
    using fields = Fields<&Dropout::rate, &Dropout::site>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

Tensor exp(Tensor const& x);
Tensor log(Tensor const& x);
Tensor sqrt(Tensor const& x);
Tensor rsqrt(Tensor const& x);
Tensor reciprocal(Tensor const& x);
Tensor square(Tensor const& x);
Tensor absolute(Tensor const& x);
Tensor tanh(Tensor const& x);
Tensor sigmoid(Tensor const& x);
Tensor relu(Tensor const& x);
Tensor silu(Tensor const& x);
Tensor gelu(Tensor const& x);
Tensor is_finite(Tensor const& x);
Tensor affine(Tensor const& x, double scale, double shift = 0);
Tensor maximum(Tensor const& a, Tensor const& b);
Tensor minimum(Tensor const& a, Tensor const& b);
Tensor equal(Tensor const& a, Tensor const& b);
Tensor not_equal(Tensor const& a, Tensor const& b);
Tensor less(Tensor const& a, Tensor const& b);
Tensor cast(Tensor const& x, DType dtype);
Tensor select(Tensor const& condition, Tensor const& a, Tensor const& b);
Tensor full(Shape shape, double value, DType dtype = DType::f32);
Tensor full_like(Tensor const& x, double value);
Tensor iota(Shape shape, int dim, DType dtype = DType::i32);
Tensor swiglu(Tensor const& gate, Tensor const& up);
/// `key` from `random_key()` (tensor.hpp) or any i32[2]; a rate of 0 records nothing.
Tensor dropout(Tensor const& x, double rate, Tensor const& key);

Tensor operator+(Tensor const& a, Tensor const& b);
Tensor operator-(Tensor const& a, Tensor const& b);
Tensor operator*(Tensor const& a, Tensor const& b);
Tensor operator/(Tensor const& a, Tensor const& b);
Tensor operator-(Tensor const& x);
Tensor operator+(Tensor const& x, double c);
Tensor operator-(Tensor const& x, double c);
Tensor operator*(Tensor const& x, double c);
Tensor operator/(Tensor const& x, double c);
Tensor operator+(double c, Tensor const& x);
Tensor operator-(double c, Tensor const& x);
Tensor operator*(double c, Tensor const& x);
Tensor operator/(double c, Tensor const& x);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/elementwise-inl.hpp"
#endif
