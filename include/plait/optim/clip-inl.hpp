#pragma once

#include "plait/ops/elementwise.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/optim/clip.hpp"

namespace plait {

PLAIT_INLINE Tensor clip_norm(Gradients& gradients, double limit) {
    check<UsageError>(limit > 0, "clip_norm: the limit is {}: use a positive number", limit);
    OriginScope origin({"optimizer", Phase::update, false});
    Tensors all;
    for (auto const& [variable, g] : gradients.entries) all.push_back(g);
    Tensor norm = gradient_norm(all);
    Tensor coefficient = minimum(full_like(norm, limit) / (norm + 1e-6), full_like(norm, 1));
    for (auto& [variable, g] : gradients.entries) g = g * coefficient;
    return norm;
}

}  // namespace plait
