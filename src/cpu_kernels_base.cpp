#include "plait/cpu/table-inl.hpp"
