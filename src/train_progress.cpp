#include "plait/train/progress-inl.hpp"
