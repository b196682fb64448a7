#include "plait/train/compile-inl.hpp"
