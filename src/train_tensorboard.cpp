#include "plait/train/tensorboard-inl.hpp"
