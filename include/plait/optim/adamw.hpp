#pragma once

#include "plait/autograd/gradients.hpp"
#include "plait/core/inline.hpp"
#include "plait/optim/curves.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace plait::optim {

/// AdamW; see AdamWUpdate (ops/update.hpp).
struct AdamW {
    Curve rate = 3e-4;
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
    double weight_decay = 0.1;
    /// Parameters that decay: globs by commas, `!` takes out again, the last match counts.
    std::string decays = "**.weight, !**.*norm*.weight";

    struct Moments {
        std::shared_ptr<Variable> m, v;
    };
    std::map<std::shared_ptr<Variable>, Moments> moments{};

    /// The optimizer's state for `parameters`: two moments of zeros each, in f32 (f64 for f64).
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
