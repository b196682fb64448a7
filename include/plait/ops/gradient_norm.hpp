#pragma once

#include "plait/core/combine.hpp"
#include "plait/tensor.hpp"

namespace plait {

/// The largest |g|: [...] -> f32[] (f64 for f64). A NaN wins.
struct MaxAbsolute {
    static constexpr std::string_view name = "max_absolute";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

/// The sum of squares as two integers, which add up in any order: (g [...], m[]) -> i64[2], for any m >= |g|
/// that the blocks of all gradients share. With e the exponent of m (m < 2^e), v = (g / 2^e)^2 * 2^bits is
/// split into hi, v to the nearest integer, and lo, (v - hi) * 2^bits to the nearest integer; the output is
/// the sums of hi and of lo. n elements in all fit when n * 2^bits < 2^63. Zeros where m is 0 or not finite.
struct Squares {
    static constexpr std::string_view name = "squares";
    int bits = 31;  // at most 31
    using fields = Fields<&Squares::bits>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
};

/// The root of what `Squares` of the same `bits` and m gave: (i64[2], m[]) -> m's dtype, []. It is m where m
/// is 0 or not finite.
struct NormOfSquares {
    static constexpr std::string_view name = "norm_of_squares";
    int bits = 31;
    using fields = Fields<&NormOfSquares::bits>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
    /// Throws UsageError: integers carry no gradient.
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// The elementwise sum, in the order of the inputs, or maximum of tensors of one shape and dtype:
/// (x...) -> like x. A NaN wins a maximum.
struct Fold {
    static constexpr std::string_view name = "fold";
    Combine how = Combine::sum;
    using fields = Fields<&Fold::how>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// The Euclidean norm of all gradients together: f32[], or f64[] when all are f64. However the gradients are
/// divided into blocks, the bits are the same, and squares neither overflow nor vanish. Has no gradient of
/// its own: for a penalty on gradients take sqrt(sum(square(g))). Throws UsageError without gradients.
Tensor gradient_norm(Tensors const& gradients);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/gradient_norm-inl.hpp"
#endif
