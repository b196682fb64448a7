#include "plait/train/speed-inl.hpp"
