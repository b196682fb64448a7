#include "plait/autograd/gradients-inl.hpp"
#include "plait/autograd/recompute-inl.hpp"
#include "plait/optim/adamw-inl.hpp"
#include "plait/optim/clip-inl.hpp"
