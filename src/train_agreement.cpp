#include "plait/train/agreement-inl.hpp"
