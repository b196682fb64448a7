#pragma once

#include <memory>
#include <optional>
#include <variant>

#include "config.hpp"
#include "plait/models/gpt2.hpp"
#include "plait/models/llama.hpp"
#include "plait/optim/curves.hpp"
#include "plait/train/compile.hpp"

namespace plait::tools {

/// A model of one of the families, on fake parameters.
using Model = std::variant<models::Llama, models::Gpt2>;

Model make_model(Config const& config);
std::shared_ptr<State> state_of(Model& model, std::shared_ptr<Backend> backend);

/// The programs of one rank of a training run. They share the state and take turns in the scratch memory.
struct Programs {
    Plan plan;
    std::shared_ptr<State> state;
    std::shared_ptr<Scratch> scratch;
    optim::Curve rate;
    Step train;     // (tokens, targets) -> loss, grad_norm; stores nothing when the loss is above *loss_limit
    Step validate;  // (tokens, targets) -> loss

    std::shared_ptr<float> loss_limit{};  // null without optimizer.spike
    std::int64_t snapshot_bytes = 0;      // of the copy that is saved while training goes on; 0 without one
    std::int64_t sample_bytes = 0;        // of what draws samples on this rank; 0 without it

    /// Bytes of all that is planned: what a rank holds from its first step on.
    std::int64_t arena_bytes() const { return state->bytes() + scratch->bytes(); }
    /// With the copies that saves and samples take.
    std::int64_t all_bytes() const { return arena_bytes() + snapshot_bytes + sample_bytes; }
};

/// Records and compiles both for this rank of `mesh`; takes no memory for tensors. Throws UsageError for a
/// glob of plan.* or optimizer.decay_globs that names nothing, and for a line that cannot hold. What `watch`
/// names are results of the training step (Plan::watch).
Programs compile_programs(Config const& config, Mesh const& mesh, std::shared_ptr<Backend> backend,
                          std::vector<std::string> const& watch = {});

/// The programs of the rank that holds most bytes, where that is more than what `than`, those of rank 0,
/// hold: ranks along the pipeline axis have other stages, and each rank its own part of a snapshot.
std::optional<Programs> compile_larger(Config const& config, std::shared_ptr<Backend> const& backend,
                                       Programs const& than);

/// nn::keep_matrices_in: in the dtype of optimizer.master to train a model, and in the one computed in to run
/// one that is not trained on, as a step would read them.
void keep_matrices_in(Model& model, DType dtype);
/// What training keeps a parameter in.
DType dtype_in_training(Config const& config, Variable const& v);

/// Checks what plan.lines name: axes, with the nearest one, and parameters. The rest is found when a step is
/// compiled.
void check_plan_lines(Config const& config, State const& state);

}  // namespace plait::tools
