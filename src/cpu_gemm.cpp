#include "plait/cpu/gemm-inl.hpp"
