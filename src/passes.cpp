#include "plait/passes/fusion-inl.hpp"
#include "plait/passes/grouped_heads-inl.hpp"
#include "plait/passes/lower-inl.hpp"
#include "plait/passes/precision-inl.hpp"
