#include "plait/train/metrics-inl.hpp"
