#include "plait/train/recording-inl.hpp"
