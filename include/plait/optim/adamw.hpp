#pragma once

#include "plait/autograd/gradients.hpp"
#include "plait/core/inline.hpp"
#include "plait/optim/curves.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace plait::optim {

/// AdamW; see AdamWUpdate (ops/update.hpp). Parameters in bf16 (nn::keep_matrices_in) are rounded at random,
/// as steps smaller than half of what lies between two of their values would all be lost otherwise. The
/// random bits come from the seed, the step, the path and the element's place in the whole.
struct AdamW {
    Curve rate = 3e-4;
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
    double weight_decay = 0.1;
    /// Parameters that decay: globs by commas, `!` takes out again, the last match counts.
    std::string decays = "**.weight, !**.*norm*.weight";
    /// What the moments of bf16 parameters are in: f32, or bf16, which takes half and rounds them to nearest.
    DType bf16_moments = f32;

    struct Moments {
        std::shared_ptr<Variable> m, v;
    };
    std::map<std::shared_ptr<Variable>, Moments> moments{};

    /// The optimizer's state for `parameters`: two moments of zeros each, in f32 (f64 for f64,
    /// `bf16_moments` for bf16).
    std::vector<std::shared_ptr<Variable>> prepare(std::vector<std::shared_ptr<Variable>> const& parameters);

    /// Records the update of every parameter that has a gradient.
    template <class Module>
    void update(Module& module, Gradients const& gradients) {
        variables_of(module);
        update(gradients);
    }
    void update(Gradients const& gradients);

    bool decays_at(std::string const& path) const;
};

}  // namespace plait::optim

#ifdef PLAIT_HEADER_ONLY
#include "plait/optim/adamw-inl.hpp"
#endif
