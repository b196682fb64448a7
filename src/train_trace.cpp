#include "plait/train/stage_costs-inl.hpp"
#include "plait/train/trace_file-inl.hpp"
