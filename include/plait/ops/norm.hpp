#pragma once

#include "plait/tensor.hpp"

namespace plait {

/// Layer norm over the last dim: (x[..., d], gain[d], bias[d]) -> (y[..., d], mean f32[...], rstd f32[...]).
/// With `residual` (set by the fusion pass) x comes as two addends, (x, r, gain, bias), and their sum is a
/// fourth output. Statistics are f32 (f64 for f64). Ba et al., "Layer normalization", 2016.
struct LayerNorm {
    static constexpr std::string_view name = "layer_norm";
    double eps = 1e-5;
    bool residual = false;
    using fields = Fields<&LayerNorm::eps, &LayerNorm::residual>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// (dy, x, gain, mean, rstd) -> (dx, dgain f32[d], dbias f32[d]). With `residual` a sixth input is added to
/// dx.
struct LayerNormGradient {
    static constexpr std::string_view name = "layer_norm_gradient";
    bool residual = false;
    using fields = Fields<&LayerNormGradient::residual>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors define(Tensors const& x) const;
};

/// RMS norm over the last dim: (x[..., d], gain[d]) -> (y[..., d], rstd f32[...]). With `residual` x comes as
/// two addends, (x, r, gain), and their sum is a third output. Zhang and Sennrich, "Root mean square layer
/// normalization", 2019.
struct RmsNorm {
    static constexpr std::string_view name = "rms_norm";
    double eps = 1e-6;
    bool residual = false;
    using fields = Fields<&RmsNorm::eps, &RmsNorm::residual>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Tensors define(Tensors const& x) const;
    Tensors vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const;
};

/// (dy, x, gain, rstd) -> (dx, dgain f32[d]). With `residual` a fifth input is added to dx.
struct RmsNormGradient {
    static constexpr std::string_view name = "rms_norm_gradient";
    bool residual = false;
    using fields = Fields<&RmsNormGradient::residual>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}}; }
    Tensors define(Tensors const& x) const;
};

Tensor layer_norm(Tensor const& x, Tensor const& gain, Tensor const& bias, double eps = 1e-5);
Tensor rms_norm(Tensor const& x, Tensor const& gain, double eps = 1e-6);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/norm-inl.hpp"
#endif
