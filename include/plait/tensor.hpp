#pragma once

#include "plait/graph/graph.hpp"
#include "plait/graph/source.hpp"
#include "plait/graph/trace.hpp"

#include <concepts>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

namespace plait {

/// A handle to a value of the graph that is being recorded. It has a dtype and a shape from the start,
/// numbers only once a program has run. An empty tensor stands for "none".
class Tensor {
  public:
    Tensor() = default;
    explicit Tensor(Value value) : value_(std::move(value)) {}
    /// A constant.
    explicit Tensor(Array array) {
        Meta meta = array.meta();
        value_ = {record(Source{SourceKind::constant, "constant", meta, {}, std::move(array), {}}, {}), 0};
    }

    explicit operator bool() const { return static_cast<bool>(value_); }
    Value const& value() const { return value_; }
    Meta const& meta() const { return value_.meta(); }
    DType dtype() const { return meta().dtype; }
    Shape const& shape() const { return meta().shape; }
    std::int64_t size(int dim) const { return shape()[dim]; }
    int rank() const { return shape().rank(); }

  private:
    Value value_;
};

/// Records `op` on `x` and gives its outputs.
inline Tensors apply(AnyOp op, Tensors const& x) {
    std::vector<Value> inputs;
    inputs.reserve(x.size());
    for (auto const& t : x) {
        check<ShapeError>(static_cast<bool>(t), "{}: input {} is an empty tensor", op.name(), inputs.size());
        inputs.push_back(t.value());
    }
    auto node = record(std::move(op), std::move(inputs));
    Tensors y;
    for (std::size_t i = 0; i < node->outputs.size(); ++i) y.emplace_back(Value{node, static_cast<int>(i)});
    return y;
}
/// The same; without it `std::apply`, found through std::vector, would claim the call for a list that has a
/// name.
template <class T, class X>
requires(std::constructible_from<AnyOp, T>&& std::same_as<std::remove_cvref_t<X>, Tensors>) Tensors
    apply(T&& op, X&& x) {
    return plait::apply(AnyOp(std::forward<T>(op)), static_cast<Tensors const&>(x));
}
/// The same for an op whose first output is the one that matters.
inline Tensor apply_one(AnyOp op, Tensors const& x) { return apply(std::move(op), x).front(); }

/// A new variable and the node that reads it.
std::shared_ptr<Variable> make_variable(Meta meta, Init init, VariableKind kind = VariableKind::parameter,
                                        std::string path = {});

/// What the variable holds at this point of the recording.
inline Tensor read(Variable const& v) { return Tensor(v.current); }
/// Gives the variable a new value, which a compiled step stores at its end. Same dtype and shape, else
/// ShapeError.
void assign(Variable& v, Tensor const& value);

/// A column of the batch that the step is called with.
Tensor batch_input(std::string name, Meta meta);
/// A small value that changes from step to step and is written before each: learning rate, step, seed.
Tensor feed_input(std::string name, Meta meta, Feed write);
/// i32[2], seed and step: what random ops read. One for each recording.
Tensor random_key();

inline Tensors AnyOp::define(Tensors const& x) const { return self_->define(x); }
inline Tensors AnyOp::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    return self_->vjp(x, y, dy);
}

template <Op T>
Tensors AnyOp::Model<T>::define(Tensors const& x) const {
    if constexpr (defined) return op.define(x);
    else fail("{} has no definition in simpler ops: the backend needs a kernel for it", T::name);
}
template <Op T>
Tensors AnyOp::Model<T>::vjp(Tensors const& x, Tensors const& y, Tensors const& dy) const {
    if constexpr (differentiable) return op.vjp(x, y, dy);
    else fail<UsageError>("{} has no gradient", T::name);
}

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/tensor-inl.hpp"
#endif
