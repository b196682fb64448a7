#include "cpu_kernels.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,fma,f16c")
#define PLAIT_CPU_TARGET avx2
#define PLAIT_VECTOR_BYTES 32
#include "plait/cpu/table-inl.hpp"
#endif
