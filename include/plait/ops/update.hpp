#pragma once

#include "plait/tensor.hpp"

namespace plait {

/// One AdamW step: (p, g, m, v, rate[], step i32[]) -> (p, m, v); `step` counts from 1. With `stochastic` one
/// more input, a key i32[2] (seed and step), rounds a p in bf16 as StochasticRound does; a wider p is what
/// was computed, and m and v are rounded to nearest always. With `scaled` one more scalar input multiplies g,
/// with `guarded` one more u8 scalar leaves everything as it is when 0 (both set by the fusion pass).
/// Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
struct AdamWUpdate {
    static constexpr std::string_view name = "adamw";
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0;
    bool scaled = false, guarded = false, stochastic = false;
    std::uint64_t site = 0;  // of the random bits
    using fields =
        Fields<&AdamWUpdate::beta1, &AdamWUpdate::beta2, &AdamWUpdate::eps, &AdamWUpdate::decay,
               &AdamWUpdate::scaled, &AdamWUpdate::guarded, &AdamWUpdate::stochastic, &AdamWUpdate::site>;

    /// The input that multiplies g, and the last one.
    int scale_input() const { return 6 + stochastic; }
    int guard_input() const { return 6 + stochastic + scaled; }

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
    Aliases aliases() const { return {{0, 0}, {1, 2}, {2, 3}}; }
    Tensors define(Tensors const& x) const;
};

/// x rounded to bf16 at random, so that the mean is x: (x, key) -> y, x in f32 (f64 goes to f32 first), the
/// key i32[2] (seed and step). 16 random bits are added below those that bf16 keeps, and what is below is cut
/// off; numbers that bf16 has stay, and so do infinities and NaN. The bits depend on (key, site, logical
/// element index) alone. Gupta et al., "Deep learning with limited numerical precision", ICML 2015.
struct StochasticRound {
    static constexpr std::string_view name = "stochastic_round";
    std::uint64_t site = 0;
    using fields = Fields<&StochasticRound::site>;

    Metas infer(Metas const& in) const;
    Rule rule(Metas const& in) const;
};

/// `key` from `random_key()` (tensor.hpp) or any i32[2]; x in bf16 is given back.
Tensor stochastic_round(Tensor const& x, std::uint64_t site, Tensor const& key);

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
