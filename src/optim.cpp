#include "plait/optim/adamw-inl.hpp"
#include "plait/optim/clip-inl.hpp"
