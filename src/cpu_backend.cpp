#include "plait/cpu/backend-inl.hpp"
