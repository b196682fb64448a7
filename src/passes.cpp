#include "plait/passes/fusion-inl.hpp"
#include "plait/passes/lower-inl.hpp"
#include "plait/passes/precision-inl.hpp"
