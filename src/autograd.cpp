#include "plait/autograd/gradients-inl.hpp"
#include "plait/autograd/recompute-inl.hpp"
