#include "plait/cpu/device-inl.hpp"
