#include "plait/train/bisect-inl.hpp"
