#pragma once

#include "plait/graph/walk.hpp"
#include "plait/tensor.hpp"

#include <memory>
#include <utility>
#include <vector>

namespace plait {

/// Cotangents of `x`, given those of `y`: records the backward nodes of everything between them. An empty
/// `dy` element is zero; the result holds an empty tensor where y does not depend on x. Throws UsageError
/// naming an op without gradient and its module.
Tensors backward(Tensors const& y, Tensors const& dy, Tensors const& x);

/// d y / d x for a scalar y.
Tensors gradients(Tensor const& y, Tensors const& x);

/// The gradient of each parameter of a module.
struct Gradients {
    std::vector<std::pair<std::shared_ptr<Variable>, Tensor>> entries;
};

namespace detail {
Gradients gradients_of(Tensor const& loss, std::vector<std::shared_ptr<Variable>> const& parameters);
}

/// The loss that `f` computes from the module's parameters, and its gradient for each of them.
template <class Module, class F>
std::pair<Tensor, Gradients> value_and_gradients(Module& module, F&& f) {
    auto parameters = variables_of(module);
    Tensor loss = f();
    return {loss, detail::gradients_of(loss, parameters)};
}

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/autograd/gradients-inl.hpp"
#endif
