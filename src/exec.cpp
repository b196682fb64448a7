#include "plait/exec/executor-inl.hpp"
#include "plait/exec/memory_plan-inl.hpp"
#include "plait/exec/program-inl.hpp"
#include "plait/exec/state-inl.hpp"
