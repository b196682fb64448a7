#include "plait/train/decoder-inl.hpp"
