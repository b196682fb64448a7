#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/executor.hpp"
#include "plait/exec/state.hpp"
#include "plait/graph/sections.hpp"
#include "plait/graph/trace.hpp"
#include "plait/graph/walk.hpp"
#include "plait/parallel/choose.hpp"
#include "plait/parallel/pipeline.hpp"
#include "plait/parallel/plan.hpp"
#include "plait/tensor.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace plait {

/// Named results of a step; scalars are what a training loop logs.
using Row = std::vector<std::pair<std::string, Tensor>>;
/// Named values of a row after a step.
using Values = std::vector<std::pair<std::string, Array>>;
/// The columns of a batch: name, dtype and shape at the global batch.
using Columns = std::vector<std::pair<std::string, Meta>>;

/// The batch as the recorded function sees it.
struct Batch {
    std::map<std::string, Tensor> columns;
    Tensor tokens, targets;  // the columns of these names, where there are any

    Tensor const& operator[](std::string const& name) const;
};

/// A language model's batch: tokens and targets, i32[batch, seq].
inline Columns token_columns(std::int64_t batch, std::int64_t seq) {
    Meta m{i32, {batch, seq}};
    return {{"tokens", m}, {"targets", m}};
}

/// The CPU with `threads` workers; 0 takes all cores.
std::shared_ptr<Backend> cpu_backend(int threads = 0);

/// The variables of a module, in one state. Programs compiled with it share the memory.
template <class Module>
std::shared_ptr<State> state(Module& module, std::shared_ptr<Backend> backend = cpu_backend()) {
    auto s = std::make_shared<State>(std::move(backend));
    s->add(variables_of(module, true));
    return s;
}
/// The same with the optimizer's.
template <class Module, class Optimizer>
requires requires(Optimizer& o, std::vector<std::shared_ptr<Variable>> const& v) { o.prepare(v); }
std::shared_ptr<State> state(Module& module, Optimizer& optimizer,
                             std::shared_ptr<Backend> backend = cpu_backend()) {
    auto s = state(module, std::move(backend));
    s->add(optimizer.prepare(s->variables()));
    return s;
}

/// What each pass left, for --dump.
struct Dumps {
    Graph recorded;     // as the researcher's function gave it
    Graph passed;       // after precision, recompute and fusion
    Layouts layouts;    // of `passed` over the mesh
    Sections sections;  // this rank's share
    Holders holders;    // of the variables, where a pipeline divides them
    /// Of the pipeline, where there is one: the modules of its stages, and the order of its pieces.
    StageModules modules{};
    Schedule schedule{};
};

/// A step that can run: the program, its state, and the count of steps done.
class Step {
  public:
    Step(Program program, Dumps dumps, std::shared_ptr<State> state, std::shared_ptr<Scratch> scratch,
         Mesh mesh = {})
        : executor_(std::move(program), state, std::move(scratch),
                    [mesh](std::string_view axis) { return mesh.along(axis); }),
          dumps_(std::move(dumps)),
          state_(std::move(state)),
          mesh_(std::move(mesh)) {}

    /// Runs once, on all ranks of the mesh together. `batch` holds an array for each column: of the whole
    /// batch, or of this rank's rows (Mesh::samples).
    Values operator()(std::map<std::string, Array> const& batch);

    /// Steps done; the next one is number `steps_done() + 1`. Set it to go on from a checkpoint.
    std::int64_t steps_done() const { return done_; }
    void set_steps_done(std::int64_t n) { done_ = n; }
    /// Seeds the first values of the state, unless it has them, and the random ops.
    void set_seed(std::uint64_t seed) { state_->set_seed(seed), seed_ = seed; }

    /// Looks at what every op writes in the steps that follow: an Error names the first that gives a NaN.
    void check_values(bool on) { executor_.check_values(on); }
    /// Adds the times of the steps that follow to `log`; null, as at first, ends that.
    void trace(TraceLog* log) { executor_.trace(log); }

    Program const& program() const { return executor_.program(); }
    Dumps const& dumps() const { return dumps_; }
    State& state() { return *state_; }
    Mesh const& mesh() const { return mesh_; }
    /// Bytes planned, by kind; the state's included.
    MemoryTable memory() const;

  private:
    Executor executor_;
    Dumps dumps_;
    std::shared_ptr<State> state_;
    Mesh mesh_;
    std::int64_t done_ = 0;
    std::uint64_t seed_ = 1;
};

namespace detail {
Step compile(Plan const& plan, std::shared_ptr<State> state, std::shared_ptr<Scratch> scratch,
             Columns const& columns, std::function<Row(Batch const&)> const& record);
}

/// Records `f` once on fake tensors of the given columns and compiles what it computes and stores: the order
/// of the passes is that of docs/design.md. Where the row has floating scalars, nothing is stored in a step
/// in which one of them is not finite. Takes no memory for tensors. `scratch` lets several programs take
/// turns in one region.
template <class F>
Step compile(Plan const& plan, std::shared_ptr<State> state, Columns const& columns, F&& f,
             std::shared_ptr<Scratch> scratch = nullptr) {
    if (!scratch) scratch = std::make_shared<Scratch>(state->shared_backend());
    return detail::compile(plan, std::move(state), std::move(scratch), columns,
                           [&](Batch const& b) -> Row { return f(b); });
}

/// The value of a small thing recorded outside `compile`. Variables give the value they start from. Without a
/// backend the CPU's first core makes it.
Array evaluate(Tensor const& x, std::shared_ptr<Backend> backend = nullptr);
std::vector<Array> evaluate(Tensors const& x, std::shared_ptr<Backend> backend = nullptr);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/compile-inl.hpp"
#endif
