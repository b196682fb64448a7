#pragma once

#include "plait/tensor.hpp"

namespace plait {

/// The three products of a linear layer with weight [n, k], closed under differentiation:
/// nt: x[..., k], w[n, k] -> [..., n] · nn: y[..., n], w[n, k] -> [..., k] · tn: y[..., n], x[..., k] -> [n,
/// k].
enum class ProductForm : std::uint8_t { nt, nn, tn };
std::string_view name_of(ProductForm form);

/// A sum of `terms` products of one form and one output shape: (a1, b1, a2, b2, ...) -> y. Accumulates in f32
/// (f64 for f64). The form tn sums over the batch, so its output is f32 for bf16 operands; the others keep
/// the operands' dtype.
struct Product {
    static constexpr std::string_view name = "product";
    ProductForm form = ProductForm::nt;
    int terms = 1;
    using fields = Fields<&Product::form, &Product::terms>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;  // reshapes, transposes and MatMul
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

enum class Epilogue : std::uint8_t { bias, bias_gelu };
std::string_view name_of(Epilogue e);

/// Product nt with an epilogue: (x[..., k], w[n, k], b[n]) -> y[..., n]; bias_gelu also gives the value
/// before GELU, which its backward reads: (..., n) twice. Made by the fusion pass.
struct Linear {
    static constexpr std::string_view name = "linear";
    Epilogue epilogue = Epilogue::bias;
    using fields = Fields<&Linear::epilogue>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

/// Product nn with GELU's gradient: (y[..., n], w[n, k], x[..., k]) -> dx[..., k], the product times GELU's
/// slope at x. y is the cotangent of a layer w that reads GELU of x. Made by the fusion pass.
struct ProductGeluGradient {
    static constexpr std::string_view name = "product_gelu_gradient";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

/// The gradients of a Linear's weight and bias: (dy[..., n], x[..., k]) -> dw[n, k], the product tn, and
/// db[n], the sum of dy's rows; both f32 for bf16. Made by the fusion pass.
struct LinearGradient {
    static constexpr std::string_view name = "linear_gradient";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

/// Batched matrix product: a[..., m, k] · b[..., k, n] -> [..., m, n], either operand's last two dims swapped
/// on request. Leading dims are equal.
struct MatMul {
    static constexpr std::string_view name = "matmul";
    bool transpose_a = false, transpose_b = false;
    using fields = Fields<&MatMul::transpose_a, &MatMul::transpose_b>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Cost cost(Metas const& in) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// x[..., k] times w[n, k] transposed, plus b[n] unless empty: [..., n].
Tensor linear(Tensor const& x, Tensor const& w, Tensor const& b = {});
Tensor product(ProductForm form, Tensor const& a, Tensor const& b);
Tensor matmul(Tensor const& a, Tensor const& b, bool transpose_a = false, bool transpose_b = false);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/matmul-inl.hpp"
#endif
