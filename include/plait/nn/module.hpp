#pragma once

#include "plait/graph/walk.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/tensor.hpp"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace plait::nn {

/// A trainable tensor of a module; reading it gives its value at this point of the recording. Copies are one
/// parameter. It has no memory until a program that uses it runs.
struct Parameter {
    std::shared_ptr<Variable> variable;

    explicit Parameter(Shape shape, Init init = {}, DType dtype = f32)
        : variable(make_variable({dtype, shape}, init)) {}

    operator Tensor() const { return read(*variable); }
    /// Says that only the first `n` rows count: those after them are padding, zeros that nothing trains.
    void count_rows(std::int64_t n) { variable->rows = n; }
    Meta const& meta() const { return variable->meta; }
};

/// Keeps the module's f32 parameters of two dims or more in `dtype`, without a copy in f32; gains and biases
/// stay. With bf16 the optimizer rounds them at random (optim::AdamW), and Plan::compute(bf16) goes with it.
/// To be called on a whole model, before its `state` is made and anything is recorded: paths are set as
/// `state` sets them.
template <class Module>
void keep_matrices_in(Module& module, DType dtype) {
    for (auto const& v : variables_of(module, true)) {
        if (v->meta.dtype != f32 || dtype == f32 || v->meta.shape.rank() < 2) continue;
        v->meta.dtype = dtype;
        v->source = {record(Source{SourceKind::variable, v->path, v->meta, v, {}, {}}, {}), 0};
        v->current = v->source;
    }
}

/// A chain of equal modules: block i records under "<path>.i" and marks what it gives as "<path>.i.out".
template <class Block>
struct Stack {
    std::vector<Block> blocks;
    std::string path;

    template <class... Args>
    Tensor operator()(Tensor const& x, Args const&... args) const {
        return each(x, [&](Block const& block, Tensor const& y, std::size_t) { return block(y, args...); });
    }
    /// The same by call(block, x, i), for blocks that get something of their own.
    template <class Call>
    Tensor each(Tensor x, Call const& call) const {
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            Scope scope((path.empty() ? "" : path + ".") + std::to_string(i), true);
            x = call(blocks[i], x, i);
            mark_output(x.value());
        }
        return x;
    }

    auto begin() { return blocks.begin(); }
    auto end() { return blocks.end(); }
};

/// Random ops record nothing during its life: validation and generation.
class Inference {
  public:
    Inference() : outer_(std::exchange(Recorder::current().training, false)) {}
    ~Inference() { Recorder::current().training = outer_; }
    Inference(Inference const&) = delete;
    Inference& operator=(Inference const&) = delete;

  private:
    bool outer_;
};

/// Drops elements while training, at the module path it is called under.
inline Tensor dropout(Tensor const& x, double rate) {
    if (rate == 0 || !Recorder::current().training) return x;
    return plait::dropout(x, rate, random_key());
}

}  // namespace plait::nn
