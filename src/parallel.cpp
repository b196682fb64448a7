#include "plait/parallel/layout-inl.hpp"
#include "plait/parallel/loops-inl.hpp"
