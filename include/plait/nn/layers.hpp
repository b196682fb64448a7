#pragma once

#include "plait/nn/module.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/norm.hpp"

#include <optional>
#include <string>

namespace plait::nn {

/// y = x wᵀ + b: [..., in] -> [..., out]; the weight is [out, in], as Hugging Face stores it.
struct Linear {
    Parameter weight;
    std::optional<Parameter> bias;
    std::string path;

    Linear(std::int64_t in, std::int64_t out, bool with_bias = false, Init init = Init::normal(0.02))
        : weight(Shape{out, in}, init) {
        if (with_bias) bias.emplace(Shape{out});
    }

    Tensor operator()(Tensor const& x) const {
        Scope scope(path, true);
        Tensor y = linear(x, weight, bias ? Tensor(*bias) : Tensor());
        mark_output(y.value());
        return y;
    }

    using fields = Fields<&Linear::weight, &Linear::bias>;
};

/// Rows of a table [vocab, dim] for tokens i32[...]: [..., dim].
struct Embedding {
    Parameter weight;
    std::string path;

    Embedding(std::int64_t vocab, std::int64_t dim, Init init = Init::normal(0.02))
        : weight(Shape{vocab, dim}, init) {}

    Tensor operator()(Tensor const& tokens) const {
        Scope scope(path, true);
        Tensor y = embedding(tokens, weight);
        mark_output(y.value());
        return y;
    }

    using fields = Fields<&Embedding::weight>;
};

/// Layer norm over the last dim, with gain and bias.
struct LayerNorm {
    Parameter weight, bias;
    double eps;
    std::string path;

    explicit LayerNorm(std::int64_t dim, double epsilon = 1e-5)
        : weight(Shape{dim}, Init::ones()), bias(Shape{dim}), eps(epsilon) {}

    Tensor operator()(Tensor const& x) const {
        Scope scope(path, true);
        return layer_norm(x, weight, bias, eps);
    }

    using fields = Fields<&LayerNorm::weight, &LayerNorm::bias>;
};

/// RMS norm over the last dim, with gain.
struct RmsNorm {
    Parameter weight;
    double eps;
    std::string path;

    explicit RmsNorm(std::int64_t dim, double epsilon = 1e-5)
        : weight(Shape{dim}, Init::ones()), eps(epsilon) {}

    Tensor operator()(Tensor const& x) const {
        Scope scope(path, true);
        return rms_norm(x, weight, eps);
    }

    using fields = Fields<&RmsNorm::weight>;
};

}  // namespace plait::nn
