#pragma once

#include "plait/tensor.hpp"

namespace plait {

/// One AdamW step: (p, g, m, v, rate[], step i32[]) -> (p, m, v); `step` counts from 1. With `scaled` one
/// more scalar input multiplies g, with `guarded` one more u8 scalar leaves everything as it is when 0 (both
/// set by the fusion pass). Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
struct AdamWUpdate {
    static constexpr std::string_view name = "adamw";
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0;
    bool scaled = false, guarded = false;
    using fields = Fields<&AdamWUpdate::beta1, &AdamWUpdate::beta2, &AdamWUpdate::eps, &AdamWUpdate::decay,
                          &AdamWUpdate::scaled, &AdamWUpdate::guarded>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}, {1, 2}, {2, 3}}; }
    Tensors define(Tensors const& x) const;
};

/// What a state variable holds after the step: (old, new, ok u8[]) -> ok ? new : old, in old's place.
struct Commit {
    static constexpr std::string_view name = "commit";

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0, true}}; }
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/ops/update-inl.hpp"
#endif
