#pragma once

#include "plait/autograd/gradients.hpp"
#include "plait/core/inline.hpp"

namespace plait {

/// Scales all gradients so that their joint norm is at most `limit`, and gives the norm before that: f32[].
/// Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.
Tensor clip_norm(Gradients& gradients, double limit);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/optim/clip-inl.hpp"
#endif
