#include "plait/parallel/layout-inl.hpp"
#include "plait/parallel/loops-inl.hpp"
#include "plait/parallel/mesh-inl.hpp"
#include "plait/parallel/plan-inl.hpp"
