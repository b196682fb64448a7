#include "plait/train/signals-inl.hpp"
