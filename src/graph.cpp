#include "plait/graph/graph-inl.hpp"
#include "plait/graph/pass-inl.hpp"
#include "plait/graph/rule-inl.hpp"
#include "plait/graph/trace-inl.hpp"
