#include "plait/cpu/thread_pool-inl.hpp"
