// expect: invalid initialization of reference
#include "plait/plait.hpp"

// A number is no tensor: its dtype would be a guess.
plait::Tensor wrong() { return plait::matmul(plait::full({2, 2}, 1), 3); }
