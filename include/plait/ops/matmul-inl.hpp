#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/infer.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/view.hpp"

#include <numeric>

namespace plait {
namespace detail {

/// Words for leading dims that term `i` of a sum shares with no other.
inline std::string own_leading(Metas const& in, std::size_t i) {
    std::string words;
    for (int d = 0; d + 1 < in[i].shape.rank(); ++d) words += fmt::format("!{}.{} ", i / 2, d);
    return words;
}

/// Gives the contracted dims of all terms, whose sizes differ, one common outer factor: a block of it is a
/// block of every term, as the heads of q, k and v are, so the sum over blocks counts each product once.
inline void share_contraction(Rule& rule, Metas const& in) {
    std::int64_t common = 0;
    for (std::size_t i = 0; i < in.size(); i += 2) common = std::gcd(common, in[i].shape.back());
    int shared = add_factor(rule, "shared", common);
    for (std::size_t i = 0; i < in.size(); i += 2) {
        int own = rule.inputs[i].back().front();
        auto& f = rule.factors[static_cast<std::size_t>(own)];
        f.size = common ? f.size / common : 0;
        f.whole = true;
        for (auto* operand : {&rule.inputs[i], &rule.inputs[i + 1]})
            for (auto& dim : *operand)
                if (dim == Rule::Dim{own}) dim = {shared, own};
    }
}

}  // namespace detail

PLAIT_INLINE std::string_view name_of(ProductForm form) {
    constexpr std::string_view names[] = {"nt", "nn", "tn"};
    return names[static_cast<std::size_t>(form)];
}
PLAIT_INLINE std::string_view name_of(Epilogue e) { return e == Epilogue::bias ? "bias" : "bias_gelu"; }

PLAIT_INLINE Rule Product::rule(Metas const& in) const {
    auto op = detail::title(name, form);
    check<ShapeError>(terms >= 1, "{}: has {} terms, wants at least one", op, terms);
    detail::want_inputs(op, in, 2 * static_cast<std::size_t>(terms));
    auto leading = [&](std::size_t i) { return in[i].shape.leading(std::max(in[i].shape.rank() - 1, 0)); };
    auto last = [&](std::size_t i) { return in[i].shape.empty() ? 0 : in[i].shape.back(); };
    bool same_leading = true, same_depth = true;
    for (std::size_t i = 2; i < in.size(); i += 2) {
        same_leading = same_leading && leading(i) == leading(0);
        same_depth = same_depth && last(i) == last(0);
    }
    std::string spec;
    for (std::size_t i = 0; i < in.size(); i += 2) {
        auto own = same_depth ? std::string() : std::to_string(i / 2);
        if (i) spec += ", ";
        if (form == ProductForm::nt) spec += fmt::format("... k{0}, n k{0}", own);
        else if (form == ProductForm::nn) spec += fmt::format("... n{0}, n{0} k", own);
        else if (same_leading) spec += "... n, ... k";
        else spec += detail::own_leading(in, i) + "n, " + detail::own_leading(in, i) + "k";
    }
    spec += form == ProductForm::nt ? " -> ... n" : form == ProductForm::nn ? " -> ... k" : " -> n k";
    auto r = parse_rule(op, spec, in);
    if (form != ProductForm::tn && !same_depth) detail::share_contraction(r, in);
    r.by_shape = true;
    return r;
}
PLAIT_INLINE Metas Product::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype;
    std::vector<detail::Want> wants{{"the left", detail::floating}};
    while (wants.size() < in.size()) wants.push_back({wants.size() % 2 ? "the right" : "the left", {t}});
    detail::want(detail::title(name, form), in, wants);
    return detail::outputs(r, {form == ProductForm::tn ? detail::wide(t) : t});
}
PLAIT_INLINE Cost Product::cost(Metas const& in) const {
    double flops = 0;
    for (std::size_t i = 0; i + 1 < in.size(); i += 2) {
        auto width = form == ProductForm::nt ? in[i + 1].shape[0] : in[i + 1].shape.back();
        flops += 2 * static_cast<double>(in[i].elements()) * static_cast<double>(width);
    }
    return detail::cost_of(in, infer(in), flops);
}
PLAIT_INLINE Tensors Product::define(Tensors const& x) const {
    auto rows = [](Tensor const& t) {
        auto width = t.shape().back();
        return reshape(detail::widened(t), {width ? t.shape().elements() / width : 0, width});
    };
    Tensor total;
    for (std::size_t i = 0; i < x.size(); i += 2) {
        auto y = matmul(rows(x[i]), rows(x[i + 1]), form == ProductForm::tn, form == ProductForm::nt);
        total = total ? total + y : y;
    }
    auto shape = total.shape();
    if (form != ProductForm::tn) {
        shape = x[0].shape();
        shape[-1] = total.size(1);
        total = cast(total, x[0].dtype());
    }
    return {reshape(total, shape)};
}
PLAIT_INLINE Tensors Product::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    Tensors dx(x.size());
    if (!dy[0]) return dx;
    auto d = cast(dy[0], x[0].dtype());
    for (std::size_t i = 0; i < x.size(); i += 2) {
        auto const &a = x[i], &b = x[i + 1];
        switch (form) {
            case ProductForm::nt:
                dx[i] = product(ProductForm::nn, d, b);
                dx[i + 1] = product(ProductForm::tn, d, a);
                break;
            case ProductForm::nn:
                dx[i] = product(ProductForm::nt, d, b);
                dx[i + 1] = product(ProductForm::tn, a, d);
                break;
            case ProductForm::tn:
                dx[i] = product(ProductForm::nt, b, d);
                dx[i + 1] = product(ProductForm::nn, a, d);
                break;
        }
    }
    return dx;
}

// The bias is added once to each output, so the contraction below it cannot be split.
PLAIT_INLINE Rule Linear::rule(Metas const& in) const {
    return detail::by_shape(parse_rule(
        name, epilogue == Epilogue::bias ? "... !k, n !k, n -> ... n" : "... !k, n !k, n -> ... n, ... n",
        in));
}
PLAIT_INLINE Metas Linear::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype;
    detail::want(name, in, {{"x", detail::floating}, {"the weight", {t}}, {"the bias", {t, f32}}});
    return epilogue == Epilogue::bias ? detail::outputs(r, {t}) : detail::outputs(r, {t, t});
}
PLAIT_INLINE Cost Linear::cost(Metas const& in) const {
    auto flops = 2 * static_cast<double>(in[0].elements()) * static_cast<double>(in[1].shape[0]);
    return detail::cost_of(in, infer(in), flops);
}
PLAIT_INLINE Tensors Linear::define(Tensors const& x) const {
    auto t = x[0].dtype();
    auto y = product(ProductForm::nt, x[0], x[1]) + x[2];
    if (epilogue == Epilogue::bias) return {cast(y, t)};
    return {cast(gelu(y), t), cast(y, t)};
}

// A slope times a sum is the sum of its addends times that slope, so the contraction may be cut.
PLAIT_INLINE Rule ProductGeluGradient::rule(Metas const& in) const {
    return detail::by_shape(parse_rule(name, "... n, n k, ... k -> ... k", in));
}
PLAIT_INLINE Metas ProductGeluGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype;
    detail::want(name, in, {{"y", detail::floating}, {"the weight", {t}}, {"x", {t}}});
    return detail::outputs(r, {t});
}
PLAIT_INLINE Cost ProductGeluGradient::cost(Metas const& in) const {
    auto flops = 2 * static_cast<double>(in[0].elements()) * static_cast<double>(in[1].shape.back());
    return detail::cost_of(in, infer(in), flops);
}
PLAIT_INLINE Tensors ProductGeluGradient::define(Tensors const& x) const {
    return apply(UnaryGradient{UnaryFn::gelu}, {x[2], product(ProductForm::nn, x[0], x[1])});
}

// x lacks what makes the bias's gradient, which every block of x's columns would make whole.
PLAIT_INLINE Rule LinearGradient::rule(Metas const& in) const {
    return detail::by_shape(parse_rule(name, "... n, ... !k -> n !k, n", in));
}
PLAIT_INLINE Metas LinearGradient::infer(Metas const& in) const {
    auto r = rule(in);
    auto t = in[0].dtype;
    detail::want(name, in, {{"dy", detail::floating}, {"x", {t}}});
    return detail::outputs(r, {detail::wide(t), detail::wide(t)});
}
PLAIT_INLINE Cost LinearGradient::cost(Metas const& in) const {
    auto width = static_cast<double>(in[1].shape.back());
    return detail::cost_of(in, infer(in), (2 * width + 1) * static_cast<double>(in[0].elements()));
}
PLAIT_INLINE Tensors LinearGradient::define(Tensors const& x) const {
    std::vector<int> rows(static_cast<std::size_t>(x[0].rank() - 1));
    std::iota(rows.begin(), rows.end(), 0);
    return {product(ProductForm::tn, x[0], x[1]), rows.empty() ? detail::widened(x[0]) : sum(x[0], rows)};
}

PLAIT_INLINE Rule MatMul::rule(Metas const& in) const {
    return detail::by_shape(parse_rule(name,
                                       fmt::format("{}, {} -> ... m n", transpose_a ? "... k m" : "... m k",
                                                   transpose_b ? "... n k" : "... k n"),
                                       in));
}
PLAIT_INLINE Metas MatMul::infer(Metas const& in) const {
    auto r = rule(in);
    detail::want(name, in, {{"the left", detail::floating}, {"the right", {in[0].dtype}}});
    return detail::outputs(r, {in[0].dtype});
}
PLAIT_INLINE Cost MatMul::cost(Metas const& in) const {
    auto width = in[1].shape[transpose_b ? -2 : -1];
    return detail::cost_of(in, infer(in),
                           2 * static_cast<double>(in[0].elements()) * static_cast<double>(width));
}
PLAIT_INLINE Tensors MatMul::vjp(Tensors const& x, Tensors const&, Tensors const& dy) const {
    if (!dy[0]) return Tensors(2);
    auto const &a = x[0], &b = x[1];
    auto d = cast(dy[0], a.dtype());
    return {transpose_a ? matmul(b, d, transpose_b, true) : matmul(d, b, false, !transpose_b),
            transpose_b ? matmul(d, a, true, transpose_a) : matmul(a, d, !transpose_a, false)};
}

PLAIT_INLINE Tensor linear(Tensor const& x, Tensor const& w, Tensor const& b) {
    auto y = product(ProductForm::nt, x, w);
    return b ? y + b : y;
}
PLAIT_INLINE Tensor product(ProductForm form, Tensor const& a, Tensor const& b) {
    return apply_one(Product{form}, {a, b});
}
PLAIT_INLINE Tensor matmul(Tensor const& a, Tensor const& b, bool transpose_a, bool transpose_b) {
    return apply_one(MatMul{transpose_a, transpose_b}, {a, b});
}

}  // namespace plait
