#include "plait/train/shared_state-inl.hpp"
